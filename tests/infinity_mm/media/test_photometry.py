"""Photometric measures: against the formulas of others, over any size, and over formats and scales."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity_mm.media.decode import decode_image
from infinity_mm.media.photometry import MIN_SIDE, Photometry, photometry, working_picture


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def scene(height: int, width: int) -> np.ndarray:
    """A smooth colour gradient with a dark disc and a bright bar: sharp edges, no fine detail."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    pixels = np.stack(
        [90 + 70 * np.sin(3 * x), 110 + 60 * np.cos(4 * y), 80 + 50 * np.sin(2 * x + y)], axis=2
    )
    pixels[(x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.06] = (20, 30, 25)
    pixels[(abs(y - 0.2) < 0.05) & (x > 0.3)] = (250, 240, 230)
    return pixels.astype(np.uint8)


def plain(colour: tuple[int, int, int], height: int = 40, width: int = 50) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def encode(pixels: np.ndarray, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def luma_of(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L")).astype(np.float64)


@pytest.mark.parametrize(
    "pixels, step",
    [
        (noise(40, 60), 1),
        (scene(90, 120), 1),
        (scene(130, 250), 7),
        (scene(140, 245), 3),
        (noise(220, 300), 13),
    ],
)
def test_tones_and_colours_are_those_of_the_plain_formulas(pixels: np.ndarray, step: int) -> None:
    found = photometry(pixels)
    luma, colours = luma_of(pixels).reshape(-1)[::step], pixels.reshape(-1, 3)[::step].astype(np.float64)
    assert found.brightness == pytest.approx(luma.mean() / 255)
    assert found.contrast == pytest.approx(luma.std() / 255)
    for value, share in ((found.brightness_p5, 0.05), (found.brightness_p99, 0.99)):
        assert (luma <= value * 255 + 0.5).mean() >= share > (luma <= value * 255 - 0.5).mean()
    shares = [
        max(((channel >= low) & (channel < low + 8)).mean() for low in range(-7, 256))
        for channel in colours.T
    ]
    assert found.uniformity == pytest.approx(min(shares))
    red, green, blue = colours.T
    reds, yellows = red - green, (red + green) / 2 - blue  # Hasler and Suesstrunk
    expected = np.hypot(reds.std(), yellows.std()) + 0.3 * np.hypot(reds.mean(), yellows.mean())
    assert found.colourfulness == pytest.approx(expected)


@pytest.mark.parametrize("height, width", [(128, 128), (200, 210), (224, 224), (255, 231), (60, 2_000)])
def test_no_line_is_missed(height: int, width: int) -> None:
    for place in range(0, min(height, width), 9):
        for line in (np.s_[place], np.s_[:, place]):
            pixels = plain((255, 255, 255), height, width)
            pixels[line] = 0
            expected = (pixels == 0).mean()
            assert 1 - photometry(pixels).uniformity == pytest.approx(expected, rel=0.35)


@pytest.mark.parametrize("height, width", [(90, 70), (200, 260), (300, 400), (5, 5_000)])
def test_a_fourth_channel_is_ignored(height: int, width: int) -> None:
    pixels = noise(height, width)
    padded = np.dstack([pixels, noise(height, width, seed=1)[:, :, :1]])
    assert photometry(padded) == photometry(pixels)
    assert photometry(padded[::-1]) == photometry(pixels[::-1].copy())


def test_a_shape_that_differs_in_hue_alone_is_not_blank() -> None:
    pixels = plain((214, 64, 70))
    pixels[10:30, 10:30] = (60, 140, 82)
    assert np.ptp(luma_of(pixels)) <= 3
    assert photometry(pixels).uniformity == pytest.approx(1 - 400 / 2000)
    assert photometry(pixels).entropy < 1


def test_entropy_is_that_of_scikit_image() -> None:
    measure = pytest.importorskip("skimage.measure")
    for pixels in (noise(50, 70), scene(90, 120), plain((9, 9, 9))):
        expected = measure.shannon_entropy(luma_of(pixels).astype(np.uint8))
        assert photometry(pixels).entropy == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("pixels", [noise(3, 3), noise(60, 80), scene(150, 220), plain((1, 2, 3))])
def test_sharpness_is_that_of_opencv(pixels: np.ndarray) -> None:
    cv2 = pytest.importorskip("cv2")
    edges = cv2.Laplacian(luma_of(pixels).astype(np.uint8), cv2.CV_64F)[1:-1, 1:-1]
    assert photometry(pixels).sharpness == pytest.approx((edges[::2] ** 2).mean(), rel=1e-5)
    assert len(edges) < 3 or photometry(pixels).sharpness == pytest.approx(edges.var(), rel=0.1)


def test_blur_lowers_sharpness_and_nothing_else_much() -> None:
    cv2 = pytest.importorskip("cv2")
    sharp = photometry(scene(200, 300))
    blurred = photometry(cv2.GaussianBlur(scene(200, 300), (0, 0), 2))
    assert blurred.sharpness < sharp.sharpness / 10
    assert blurred.brightness == pytest.approx(sharp.brightness, abs=0.01)
    assert blurred.colourfulness == pytest.approx(sharp.colourfulness, rel=0.05)


@pytest.mark.parametrize("pixels", [scene(200, 300), scene(128, 131), noise(60, 80), noise(150, 200)])
def test_blur_lowers_acuity_and_contrast_leaves_it(pixels: np.ndarray) -> None:
    cv2 = pytest.importorskip("cv2")
    sharp = photometry(pixels)
    assert sharp.acuity is not None
    assert sharp.acuity == pytest.approx(sharp.sharpness / (255 * sharp.contrast) ** 2)
    for factor in (0.5, 0.25):
        dull = (128 + factor * (pixels.astype(np.float64) - 128)).round().astype(np.uint8)
        assert photometry(dull).acuity == pytest.approx(sharp.acuity, rel=0.03)
    acuity = sharp.acuity
    for sigma in (0.7, 1.5, 3):
        blurred = photometry(cv2.GaussianBlur(pixels, (0, 0), sigma)).acuity
        assert blurred is not None and blurred < acuity
        acuity = blurred


def test_without_contrast_acuity_does_not_apply() -> None:
    pixels = plain((100, 100, 100))
    pixels[::2] += 1
    assert photometry(pixels).acuity is None
    pixels[::2] += 1
    assert photometry(pixels).acuity == pytest.approx(16)


def test_gray_has_no_colour_and_one_colour_no_spread() -> None:
    assert photometry(np.repeat(noise(30, 40)[:, :, :1], 3, axis=2)).colourfulness == 0
    assert photometry(plain((255, 0, 0))).colourfulness == pytest.approx(0.3 * math.hypot(255, 127.5))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (7, 80, 200)])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 300), (300, 1), (9, 9), (300, 400)])
def test_a_blank_picture_is_known_as_blank(colour: tuple[int, int, int], height: int, width: int) -> None:
    found = photometry(plain(colour, height, width))
    assert found.uniformity == 1 and found.contrast == found.entropy == found.sharpness == 0
    assert found.acuity is None
    assert found.text_like == found.chart_like == 0
    assert found.brightness == pytest.approx(found.brightness_p5) == pytest.approx(found.brightness_p99)


def test_dark_and_light_pictures_are_told_by_the_percentiles_that_cleanvision_uses() -> None:
    lit = scene(150, 200)
    assert photometry(lit).brightness_p99 > 0.32 and photometry(lit).brightness_p5 < 0.95
    assert photometry(lit // 8).brightness_p99 < 0.32
    assert photometry(255 - (255 - lit) // 30).brightness_p5 > 0.95


def test_the_working_picture_is_halved_until_its_shorter_side_is_below_256() -> None:
    for height, width, expected in (
        *((255, 255, (255, 255)), (256, 256, (128, 128)), (511, 600, (256, 300)), (512, 512, (128, 128))),
        *((1, 700, (1, 700)), (100, 20_000, (13, 2_500)), (20_000, 100, (2_500, 13)), (2, 2, (2, 2))),
    ):
        halved = working_picture(np.zeros((height, width, 3), np.uint8))
        assert (halved.height, halved.width) == expected
    pixels = noise(512, 520)
    means = pixels.reshape(128, 4, 130, 4, 3).mean((1, 3))
    assert np.abs(np.asarray(working_picture(pixels)) - means).max() <= 0.51


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_every_measure_is_finite_and_in_range(height: int, width: int, seed: int, levels: int) -> None:
    found = photometry(noise(height, width, seed) // levels * levels)
    values = {name: value for name, value in found._asdict().items() if value is not None}
    assert len(values) == len(found) - (found.acuity is None)
    assert all(type(value) is float for value in values.values())
    assert all(math.isfinite(value) for value in values.values())
    shares = ("brightness", "brightness_p5", "brightness_p99", "uniformity", "text_like", "chart_like")
    assert all(0 <= getattr(found, name) <= 1 for name in shares)
    assert 0 <= found.contrast <= 0.5 and 0 <= found.entropy <= 8
    assert min(found.sharpness, found.acuity or 0, found.colourfulness) >= 0


@pytest.mark.parametrize("height, width", [(1, 1), (1, 500), (500, 1), (2, 7), (100, 20_000)])
def test_odd_shapes_are_measured(height: int, width: int) -> None:
    found = photometry(noise(height, width))
    assert all(value is None or math.isfinite(value) for value in found)
    assert found == photometry(noise(height, width))


def assert_alike(one: Photometry, other: Photometry, sharpness: float) -> None:
    for name in ("brightness", "contrast", "uniformity", "text_like"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), abs=0.02), name
    assert other.chart_like == pytest.approx(one.chart_like, abs=0.1)
    assert other.brightness_p5 == pytest.approx(one.brightness_p5, abs=0.02)
    assert other.brightness_p99 == pytest.approx(one.brightness_p99, abs=0.02)
    assert other.entropy == pytest.approx(one.entropy, abs=0.3)
    assert other.colourfulness == pytest.approx(one.colourfulness, rel=0.03)
    assert other.sharpness == pytest.approx(one.sharpness, rel=sharpness)
    assert other.acuity == pytest.approx(one.acuity, rel=sharpness)


@pytest.mark.parametrize("height, width", [(180, 240), (330, 300), (700, 540)])
def test_format_and_size_matter_little(height: int, width: int) -> None:
    pixels = scene(height, width)
    one = photometry(decode_image(encode(pixels, "PNG"), min_side=MIN_SIDE).pixels)
    jpeg = encode(pixels, "JPEG", quality=95)
    assert_alike(one, photometry(decode_image(jpeg, min_side=MIN_SIDE).pixels), 0.05)
    assert_alike(one, photometry(decode_image(jpeg).pixels), 0.05)
    assert_alike(one, photometry(decode_image(encode(pixels, "PNG")).pixels), 0.001)
    double = np.repeat(np.repeat(pixels, 2, axis=0), 2, axis=1)
    assert_alike(one, photometry(decode_image(encode(double, "PNG"), min_side=MIN_SIDE).pixels), 0.001)
    jpeg = encode(double, "JPEG", quality=95)
    assert_alike(one, photometry(decode_image(jpeg, min_side=MIN_SIDE).pixels), 0.15)


def test_real_photographs_measure_alike_scaled_by_their_dct_and_in_full(shared_data: Path) -> None:
    rows = (shared_data / "coco_mini.jsonl").read_text().splitlines()[:12]
    for row in map(json.loads, rows):
        data = (shared_data / row["image"]).read_bytes()
        scaled = photometry(decode_image(data, min_side=MIN_SIDE).pixels)
        assert_alike(photometry(decode_image(data).pixels), scaled, 0.06)
