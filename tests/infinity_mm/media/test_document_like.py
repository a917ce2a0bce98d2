"""Text-like and chart-like shares: of drawn pages and charts, of shaded pictures, and of the real data."""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from infinity_mm.media.decode import decode_image
from infinity_mm.media.document_like import document_like
from infinity_mm.media.photometry import MIN_SIDE, photometry

DOCUMENTS = ("sroie", "chartqa", "opencqa", "tabmwp", "mathv", "gaokao_mm")
PHOTOGRAPHS = ("flickr8k", "flickr8k_alt", "coco_mini", "coco_pairs_full", "coco_pairs_224", "imagenet")


def page(ink: int = 0, paper: int = 255) -> Image.Image:
    """Lines of text over the upper half of a page of 200 by 240 pixels."""
    image = Image.new("L", (200, 240), paper)
    draw = ImageDraw.Draw(image)
    for line in range(8):
        draw.text((8, 8 + 13 * line), "The quick brown fox jumps over it", fill=ink)
    return image


def chart() -> Image.Image:
    image = Image.new("L", (240, 200), 250)
    draw = ImageDraw.Draw(image)
    for bar, height in enumerate((40, 90, 60, 130)):
        draw.rectangle((30 + 50 * bar, 180 - height, 60 + 50 * bar, 180), fill=60 + 30 * bar)
    draw.line((20, 10, 20, 180, 230, 180), fill=0)
    return image


def shaded(seed: int) -> np.ndarray:
    """Smooth light with grain, as a photograph has it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7), np.uint8))
    light = np.asarray(coarse.resize((240, 200), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(light + rng.normal(0, 6, light.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ink, paper", [(0, 255), (255, 0), (90, 230), (120, 0)])
def test_lines_of_text_are_text_whatever_the_ink(ink: int, paper: int) -> None:
    found = document_like(np.asarray(page(ink, paper)))
    assert 0.25 < found.text_like < 0.5
    assert found.text_like + found.chart_like > 0.9


def test_bars_and_axes_are_a_chart() -> None:
    found = document_like(np.asarray(chart()))
    assert found.text_like < 0.05 and found.chart_like > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_light_and_grain_are_neither(seed: int) -> None:
    found = document_like(shaded(seed))
    assert found.text_like < 0.02 and found.chart_like < 0.1


def test_a_shaded_thing_on_white_is_no_chart() -> None:
    luma = np.full((200, 240), 255, np.uint8)
    luma[60:140, 80:160] = shaded(0)[60:140, 80:160]
    found = document_like(luma)
    assert found.text_like < 0.05 and found.chart_like < 0.4


def test_a_page_beside_a_photograph_counts_by_its_share() -> None:
    both = np.concatenate([np.asarray(page())[:200], shaded(1)], axis=1)
    alone, found = document_like(np.asarray(page())[:200]), document_like(both)
    assert 0 < found.text_like < alone.text_like / 2
    assert 0 < found.chart_like < alone.chart_like / 2


def test_a_blank_picture_and_a_ramp_have_nothing_drawn_on_them() -> None:
    assert document_like(np.full((100, 100), 255, np.uint8)) == (0, 0)
    ramp = np.arange(128, dtype=np.uint8)[:, None] * np.ones(128, np.uint8)
    assert document_like(ramp) == (0, 0)
    assert document_like(np.minimum(ramp.astype(int) * 8 % 256, 255).astype(np.uint8)).text_like == 0


def by_cells(luma: np.ndarray) -> tuple[float, float]:
    """The definition, cell by cell in floating point."""
    drawn = plain = text = cells = 0
    for top in range(0, luma.shape[0] - 7, 8):
        for left in range(0, luma.shape[1] - 7, 8):
            cell = luma[top : top + 8 : 2, left : left + 8].astype(np.float64)
            low, high, mean, cells = cell.min(), cell.max(), cell.mean(), cells + 1
            if high - low <= 16:
                plain += 1
            elif high - low >= 24 and cell.var() >= 0.45 * (high - mean) * (mean - low) - 1e-9:
                drawn += 1
                beside = luma[top : top + 8 : 2, left : min(left + 9, luma.shape[1] // 8 * 8)]
                text += int((np.abs(np.diff(beside.astype(int))) >= 32).sum() >= 6)
    drawnness = drawn / max(1, cells - plain)
    return drawnness * text / cells, drawnness * (drawn - text + plain) / cells


@given(st.integers(8, 60), st.integers(8, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 1.0]))
def test_it_is_what_its_definition_says(height: int, width: int, seed: int, tones: float) -> None:
    rng = np.random.default_rng(seed)
    spans = rng.choice([10, 16, 17, 23, 24, 40, 255], (8, 8)).repeat(8, axis=0).repeat(8, axis=1)
    luma = np.round(rng.beta(tones, tones, (height, width)) * spans[:height, :width]).astype(np.uint8)
    assert document_like(luma) == pytest.approx(by_cells(luma))


@pytest.mark.parametrize("height, width", [(1, 1), (1, 90), (90, 1), (7, 9), (8, 8)])
def test_pictures_smaller_than_a_cell_have_one(height: int, width: int) -> None:
    luma = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    found = document_like(luma)
    assert 0 <= found.text_like <= 1 and 0 <= found.chart_like <= 1


def test_documents_are_told_from_photographs(shared_data: Path) -> None:
    """On a quarter of the pictures; benchmarks/measures.py prints precision and recall on a held-out half."""
    right = wrong = missed = 0
    for row in map(json.loads, (shared_data / "MANIFEST.jsonl").read_text().splitlines()):
        source = row["path"].partition("/")[0]
        if source in DOCUMENTS + PHOTOGRAPHS and crc32(row["path"].encode()) % 4 == 0:
            pixels = decode_image((shared_data / row["path"]).read_bytes(), min_side=MIN_SIDE).pixels
            found = photometry(pixels)
            called = found.text_like >= 0.15 or found.chart_like >= 0.5
            right += called and source in DOCUMENTS
            wrong += called and source not in DOCUMENTS
            missed += not called and source in DOCUMENTS
    assert right / (right + wrong) > 0.97 and right / (right + missed) > 0.97
