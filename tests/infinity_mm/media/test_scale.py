"""Decodes at a power of two smaller: how small, and that they are averages of the full decode."""

import io

import numpy as np
import pytest
from PIL import Image

from infinity_mm.media.decode import decode_image
from infinity_mm.media.scale import halvings

BLOCKS = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
PIXELS = np.asarray(Image.fromarray(BLOCKS).resize((360, 280), Image.Resampling.BICUBIC))


def encode(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "width, height, min_side, factor",
    [
        (255, 900, 128, 1),
        (256, 900, 128, 2),
        (4096, 2048, 128, 16),
        (1, 1, 1, 1),
        (8, 9, 1, 8),
        (8, 9, None, 1),
    ],
)
def test_halvings(width: int, height: int, min_side: int | None, factor: int) -> None:
    assert halvings(width, height, min_side) == halvings(height, width, min_side) == factor


@pytest.mark.parametrize("min_side, factor", [(None, 1), (141, 1), (140, 2), (71, 2), (70, 4), (35, 8)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_a_scaled_decode_averages_the_full_one(form: str, min_side: int | None, factor: int) -> None:
    data = encode(
        Image.fromarray(PIXELS), form, **({"quality": 98, "subsampling": 0} if form == "JPEG" else {})
    )
    found = decode_image(data, min_side=min_side)
    expected = PIXELS.reshape(280 // factor, factor, 360 // factor, factor, 3).mean((1, 3))
    assert found.pixels.shape == expected.shape and (found.width, found.height) == (360, 280)
    assert np.abs(found.pixels - expected).mean() < 2
    assert found.pixels.flags.c_contiguous and found.pixels.flags.writeable


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16"])
def test_every_mode_scales(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    data = encode(image, "PNG")
    full = decode_image(data).pixels.astype(float)
    scaled = decode_image(data, min_side=70).pixels
    assert np.abs(scaled - full.reshape(70, 4, 90, 4, 3).mean((1, 3))).max() <= 1


def test_alpha_lies_over_white_before_it_is_averaged() -> None:
    alpha = np.zeros((280, 360), np.uint8)
    alpha[::2] = 255
    image = Image.fromarray(np.dstack([np.zeros_like(PIXELS), alpha]))
    assert np.unique(decode_image(encode(image, "PNG"), min_side=140).pixels).tolist() in ([127], [128])
    image.putalpha(255)
    opaque = decode_image(encode(image, "PNG"))
    assert opaque.has_alpha and opaque.mode == "RGBA" and not opaque.pixels.any()
