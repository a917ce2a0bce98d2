"""What luma says of a picture: equal to what colours say of it, whatever the format, and flat ones known."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infinity_mm.media.decode import decode_image
from infinity_mm.media.document_like import document_like, drawn_like
from infinity_mm.media.luma_look import LumaLook, luma_look
from infinity_mm.media.phash import phash
from infinity_mm.media.photometry import MIN_SIDE, photometry, working

CLOSE = 0.03


def look(data: bytes) -> LumaLook:
    return luma_look(decode_image(data, min_side=MIN_SIDE, channels=1).pixels[:, :, 0])


def encoded(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def shapes(height: int, width: int, mode: str) -> Image.Image:
    """Smooth colours over all of the picture."""
    small = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 300), (90, 90), (300, 400)])
def test_one_colour_is_known_as_flat(colour: tuple[int, int, int], height: int, width: int) -> None:
    found = look(encoded(Image.new("RGB", (width, height), colour), "PNG"))
    assert (found.luma_uniformity, found.phash_margin, found.luma_drawn) == (1, 0, 0)
    assert found.phash == (0 if colour == (0, 0, 0) else 1 << 63)


@pytest.mark.parametrize("form, mode", [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "CMYK")])
@pytest.mark.parametrize("height, width", [(180, 240), (330, 300), (700, 540)])
def test_it_sees_the_luma_that_photometry_sees(form: str, mode: str, height: int, width: int) -> None:
    data = encoded(shapes(height, width, mode), form)
    seen = working(decode_image(data, min_side=MIN_SIDE, channels=4).pixels)
    found = look(data)
    assert np.array_equal(found.working, seen.luma)
    assert found.phash == phash(seen.luma).bits


def test_a_jpeg_hardly_differs_from_its_colours() -> None:
    data = encoded(shapes(330, 300, "RGB"), "JPEG", quality=90)
    seen = working(decode_image(data, min_side=MIN_SIDE, channels=4).pixels)
    found = look(data)
    assert found.working.shape == seen.luma.shape
    assert np.abs(found.working.astype(int) - seen.luma).max() <= 3
    assert (found.phash ^ phash(seen.luma).bits).bit_count() <= 2


def test_photographs_and_documents_measure_as_photometry_has_them(shared_data: Path) -> None:
    paths = [
        *sorted((shared_data / "coco_mini/images").iterdir())[::4],
        *sorted((shared_data / "sroie").rglob("*.jpg"))[::20],
    ]
    assert len(paths) > 15
    for path in paths:
        data = path.read_bytes()
        found, other = look(data), photometry(decode_image(data, min_side=MIN_SIDE).pixels)
        assert found.luma_drawn == pytest.approx(other.text_like + other.chart_like, abs=CLOSE), path
        assert found.luma_uniformity >= other.uniformity - CLOSE, path  # colours tell more apart


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.2, 1.0]))
def test_drawn_is_the_sum_of_text_and_chart(height: int, width: int, seed: int, tones: float) -> None:
    luma = np.random.default_rng(seed).beta(tones, tones, (height, width)) * 255
    both = document_like(luma.astype(np.uint8))
    assert drawn_like(luma.astype(np.uint8)) == pytest.approx(sum(both))


def test_uniformity_is_the_largest_share_within_eight_levels() -> None:
    luma = np.full((50, 40), 200, np.uint8)
    luma[:10] = 7  # a fifth, and apart
    luma[10:20, :20] = 207  # within eight
    luma[10:20, 20:] = 208  # not any more
    assert luma_look(luma).luma_uniformity == pytest.approx(0.7)
