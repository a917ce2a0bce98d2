"""The digest of decoded pixels: equal for what is the same picture, another for all else."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity_mm.media.decode import MediaError
from infinity_mm.media.pixels import pixel_digest


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


RGB = Image.fromarray(noise(30, 40))


def test_one_picture_in_any_lossless_format() -> None:
    wanted = pixel_digest(encoded(RGB, "PNG"))
    assert len(wanted) == 16
    for form, options in (("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {})):
        assert pixel_digest(encoded(RGB, form, **options)) == wanted
    opaque = RGB.copy()
    opaque.putalpha(255)
    assert pixel_digest(encoded(opaque, "PNG")) == wanted
    assert pixel_digest(memoryview(encoded(RGB, "PNG", compress_level=1))) == wanted


def test_gray_is_rgb_of_three_equal_channels() -> None:
    gray = RGB.convert("L")
    wanted = pixel_digest(encoded(gray, "PNG"))
    assert pixel_digest(encoded(gray.convert("RGB"), "PNG")) == wanted
    assert pixel_digest(encoded(gray.convert("LA"), "PNG")) == wanted
    two = gray.point(lambda v: 255 * (v > 127))
    assert pixel_digest(encoded(two.convert("1"), "PNG")) == pixel_digest(encoded(two, "PNG"))


def test_a_jpeg_is_what_it_decodes_to() -> None:
    jpeg = encoded(RGB.convert("L"), "JPEG", quality=80)
    assert pixel_digest(jpeg) == pixel_digest(encoded(Image.open(io.BytesIO(jpeg)), "PNG"))
    assert pixel_digest(jpeg) != pixel_digest(encoded(RGB.convert("L"), "PNG"))


def test_shape_and_every_pixel_count() -> None:
    flat = np.asarray(RGB).reshape(40, 30, 3)
    assert pixel_digest(encoded(Image.fromarray(flat), "PNG")) != pixel_digest(encoded(RGB, "PNG"))
    other = np.array(RGB)
    other[29, 39, 2] ^= 1
    assert pixel_digest(encoded(Image.fromarray(other), "PNG")) != pixel_digest(encoded(RGB, "PNG"))


def test_alpha_counts_but_not_the_colour_below_it() -> None:
    pixels = np.concatenate([np.asarray(RGB), np.full((30, 40, 1), 255, np.uint8)], axis=2)
    clear = pixels.copy()
    clear[:9, :9, 3] = 0
    hidden = clear.copy()
    hidden[:9, :9, :3] = 7
    half = pixels.copy()
    half[:9, :9, 3] = 128
    digests = [pixel_digest(encoded(Image.fromarray(p), "PNG")) for p in (pixels, clear, hidden, half)]
    assert digests[1] == digests[2] and len(set(digests)) == 3
    over_white = pixels.copy()
    over_white[:9, :9] = 255
    assert pixel_digest(encoded(Image.fromarray(over_white), "PNG")) != digests[1]


def test_sixteen_bits_count_where_they_say_more() -> None:
    gray = np.asarray(RGB.convert("L")).astype(np.uint16)
    wanted = pixel_digest(encoded(RGB.convert("L"), "PNG"))
    assert pixel_digest(encoded(Image.fromarray(gray * 257), "PNG")) == wanted
    assert pixel_digest(encoded(Image.fromarray(gray * 257 + (gray == gray[0, 0])), "PNG")) != wanted
    assert pixel_digest(encoded(Image.fromarray(gray * 257), "TIFF")) == wanted


def test_all_frames_of_an_animation_count_and_their_times_do_not() -> None:
    frames = [Image.fromarray(noise(20, 20, seed=i)) for i in range(3)]

    def animated(chosen: list[Image.Image], form: str, duration: int = 50) -> bytes:
        return encoded(
            chosen[0], form, save_all=True, append_images=chosen[1:], duration=duration, lossless=True
        )

    wanted = pixel_digest(animated(frames, "WEBP"))
    assert pixel_digest(animated(frames, "WEBP", duration=70)) == wanted
    assert pixel_digest(animated(frames, "PNG")) == wanted
    assert pixel_digest(animated([frames[0], frames[2], frames[1]], "WEBP")) != wanted
    assert pixel_digest(animated(frames[:2], "WEBP")) != wanted
    assert pixel_digest(animated(frames[:1], "WEBP")) == pixel_digest(encoded(frames[0], "PNG"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_pictures_are_compared_upright(form: str) -> None:
    image = Image.fromarray(np.repeat(noise(4, 8, seed=3), 16, axis=0).repeat(16, axis=1)).convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    lying = image.transpose(Image.Transpose.ROTATE_90)
    assert pixel_digest(encoded(lying, form, exif=exif)) == pixel_digest(
        encoded(Image.open(io.BytesIO(encoded(lying, form))).transpose(Image.Transpose.ROTATE_270), "PNG")
    )


@pytest.mark.parametrize("data", [b"", b"<html>", encoded(RGB, "PNG")[:-20], encoded(RGB, "JPEG")[:-9]])
def test_what_does_not_decode_has_none(data: bytes) -> None:
    with pytest.raises(MediaError):
        pixel_digest(data)
    with pytest.raises(MediaError) as refused:
        pixel_digest(encoded(RGB, "PNG"), max_pixels=100)
    assert refused.value.code == "bomb"


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.sampled_from([1, 3, 4]))
def test_equal_digests_mean_equal_pixels(height: int, width: int, levels: int, channels: int) -> None:
    one, other = (
        np.random.default_rng(s).integers(0, levels + 1, (height, width, channels), np.uint8) for s in (1, 2)
    )
    if channels == 4:
        one[:, :, 3] = other[:, :, 3] = 200
    digests = [
        pixel_digest(encoded(Image.fromarray(p.squeeze(2) if channels == 1 else p), "PNG"))
        for p in (one, other)
    ]
    assert (digests[0] == digests[1]) == bool((one == other).all())
