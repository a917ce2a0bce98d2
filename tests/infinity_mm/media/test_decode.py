"""Strict decoding: right pixels from every good kind, the right code for every bad one, no other error."""

import io
import json
import pickle
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from infinity_mm.media import jpeg, pillow
from infinity_mm.media.decode import MEDIA_ERRORS, MediaError, check_image, decode_image
from infinity_mm.media.probe import extension_matches, probe

NOISE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).resize((80, 60), Image.Resampling.BICUBIC)
ALPHA = PICTURE.convert("RGBA")
ALPHA.putalpha(PICTURE.convert("L"))


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def code_of(data: bytes, **options: Any) -> str | None:
    """The code of the refusal, which check and decode must agree on; None where both accept."""
    quick = check_image(data, **options)
    try:
        decode_image(data, **options)
    except MediaError as error:
        assert quick is not None and quick.code == error.code
        return error.code
    assert quick is None
    return None


def by_pillow(data: bytes) -> np.ndarray:
    """The reference: Pillow, alpha over white."""
    rgba = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


ANIMATED: dict[str, Any] = {
    "save_all": True,
    "append_images": [PICTURE.rotate(90), PICTURE.rotate(180)],
    "duration": 40,
}
BASELINE = encode(PICTURE, "JPEG", quality=90)
PNG = encode(PICTURE, "PNG")
GIF = encode(PICTURE, "GIF", **ANIMATED)
GOOD = {
    "jpeg RGB": BASELINE,
    "jpeg RGB progressive": encode(PICTURE, "JPEG", progressive=True),
    "jpeg L": encode(PICTURE.convert("L"), "JPEG"),
    "jpeg CMYK": encode(PICTURE.convert("CMYK"), "JPEG"),
    "png RGB": PNG,
    "png RGBA": encode(ALPHA, "PNG"),
    "png LA": encode(ALPHA.convert("LA"), "PNG"),
    "png 1": encode(PICTURE.convert("1"), "PNG"),
    "png P": encode(PICTURE.quantize(16), "PNG"),
    "png P keyed": encode(PICTURE.quantize(16), "PNG", transparency=3),
    "png P translucent": encode(PICTURE.quantize(16), "PNG", transparency=bytes(range(0, 256, 16))),
    "png RGB keyed": encode(PICTURE, "PNG", transparency=PICTURE.getpixel((3, 3))),
    "gif P": encode(PICTURE, "GIF"),
    "gif P keyed": encode(PICTURE.quantize(16), "GIF", transparency=2),
    "webp RGB": encode(PICTURE, "WEBP"),
    "webp RGBA": encode(ALPHA, "WEBP", lossless=True),
    "bmp RGB": encode(PICTURE, "BMP"),
    "bmp P": encode(PICTURE.quantize(16), "BMP"),
    "tiff RGB": encode(PICTURE, "TIFF"),
    "tiff RGB lzw": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff CMYK": encode(PICTURE.convert("CMYK"), "TIFF"),
    "ppm RGB": encode(PICTURE, "PPM"),
    "jp2 RGB": encode(PICTURE, "JPEG2000"),
    "avif RGB": encode(PICTURE, "AVIF"),
}
FLIPPED = bytearray(BASELINE)
for place in np.random.default_rng(3).integers(700, len(BASELINE) - 8, 40):
    FLIPPED[place] ^= 0x55


@pytest.mark.parametrize("name", GOOD)
def test_pixels_are_those_of_pillow(name: str) -> None:
    form, mode = name.split()[:2]
    found = decode_image(GOOD[name])
    difference = np.abs(found.pixels.astype(int) - by_pillow(GOOD[name]))
    # Two builds of libjpeg-turbo may differ by a rounding.
    assert difference.max() <= (3 if form == "jpeg" else 0)
    assert (found.width, found.height, found.mode, found.frames) == (80, 60, mode, 1)
    assert found.pixels.dtype == np.uint8 and found.pixels.flags.c_contiguous and found.pixels.flags.writeable
    assert found.has_alpha == (mode.endswith("A") or "keyed" in name or "translucent" in name)
    assert check_image(GOOD[name]) is None
    assert np.array_equal(decode_image(memoryview(GOOD[name])).pixels, found.pixels)
    padded = decode_image(GOOD[name], channels=4).pixels
    assert padded.shape == (60, 80, 4) and padded.dtype == np.uint8 and padded.flags.c_contiguous
    assert np.array_equal(padded[:, :, :3], found.pixels)
    small = decode_image(GOOD[name], channels=4, min_side=30).pixels
    assert small.shape == (30, 40, 4)
    assert np.array_equal(small[:, :, :3], decode_image(GOOD[name], min_side=30).pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_that_pillow_keeps_in_several_blocks(mode: str) -> None:
    image = Image.linear_gradient("L").resize((2_100, 2_100)).convert(mode)
    data = encode(image, "BMP" if mode == "RGB" else "PNG", compress_level=0)
    for channels in (3, 4):
        pixels = decode_image(data, channels=channels).pixels
        assert pixels.shape == (2_100, 2_100, channels)
        assert np.array_equal(pixels[::50, ::50, 1], np.asarray(image)[::50, ::50, 1])


def test_a_clear_pixel_is_white_and_an_opaque_one_itself() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    assert decode_image(encode(image, "PNG")).pixels.tolist() == [[[255, 255, 255], [200, 0, 0]]]


def test_cmyk_inks_are_not_inverted() -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert (
        np.abs(decode_image(encode(ink, "JPEG", quality=100)).pixels[8, 8].astype(int) - [0, 255, 255]).max()
        <= 3
    )


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled(form: str) -> None:
    image = Image.fromarray(np.array([[0, 257, 32896, 65535, 128, 129]], np.uint16))
    found = decode_image(encode(image, form))
    assert found.pixels[0, :, 1].tolist() == [0, 1, 128, 255, 0, 1]
    assert found.mode in ("I;16", "I")


def test_sixteen_bits_with_a_clear_grey() -> None:
    rows = b"\0" + struct.pack(">HHH", 0, 500, 65535)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 16, 0, 0, 0, 0))
    data += chunk(b"tRNS", struct.pack(">H", 500)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    found = decode_image(data)
    assert found.pixels[0, :, 0].tolist() == [0, 255, 255] and found.has_alpha


def test_samples_without_an_agreed_white_are_unsupported() -> None:
    for samples in (np.ones((2, 2), np.float32), np.full((2, 2), 1 << 20, np.int32)):
        assert code_of(encode(Image.fromarray(samples), "TIFF")) == "unsupported"


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pixels_come_upright(form: str, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    options = {"quality": 100} if form in ("JPEG", "AVIF") else {"lossless": True} if form == "WEBP" else {}
    data = encode(PICTURE, form, exif=exif, **options)
    found = decode_image(data)
    assert np.array_equal(decode_image(data, channels=4).pixels[:, :, :3], found.pixels)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert found.pixels.shape == expected.shape
    assert np.abs(found.pixels.astype(int) - expected).max() <= 3
    assert found.exif_orientation == turned and found.orientation_applied == (turned != 1)
    assert (found.width, found.height) == (80, 60) or form == "TIFF"
    assert found.pixels.shape[:2] == ((80, 60) if turned >= 5 else (60, 80))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_all_frames_are_decoded_and_the_first_returned(form: str) -> None:
    data = encode(PICTURE, form, **({**ANIMATED, "lossless": True} if form == "WEBP" else ANIMATED))
    found = decode_image(data)
    assert (found.frames, found.frames_checked) == (3, 3)
    assert np.array_equal(found.pixels, by_pillow(data))
    assert np.array_equal(decode_image(data, channels=4).pixels[:, :, :3], found.pixels)


def test_a_later_frame_that_does_not_decode_is_found() -> None:
    data = encode(PICTURE, "PNG", **ANIMATED)
    at = data.rindex(b"fdAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    damaged = data[at + 4 : at + 8] + b"\xaa" * (length - 4)
    assert code_of(data[: at - 4] + chunk(b"fdAT", damaged) + data[at + length + 8 :]) == "corrupt"


def test_caps_on_frames_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow, "MAX_FRAMES", 2)
    assert decode_image(GIF).frames_checked == 2
    monkeypatch.setattr(pillow, "MAX_FRAME_PIXELS", 80 * 60 - 1)
    found = decode_image(GIF)
    assert (found.frames, found.frames_checked) == (3, 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_one_pixel(form: str) -> None:
    found = decode_image(encode(Image.new("RGB", (1, 1), (255, 255, 255)), form))
    assert found.pixels.tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_thirty_thousand_pixels_wide(form: str) -> None:
    found = decode_image(encode(Image.new("RGB", (30_000, 8), (9, 99, 199)), form))
    assert found.pixels.shape == (8, 30_000, 3)


@pytest.mark.parametrize("side", [1, 20, 59, 60, 61, 500])
def test_a_scaled_decode_is_no_smaller_than_asked(side: int) -> None:
    found = decode_image(BASELINE, min_side=side)
    assert min(found.pixels.shape[:2]) >= min(side, 60)
    assert (found.width, found.height) == (80, 60)
    assert side >= 53 or found.pixels.shape[0] < 60


def test_a_scaled_decode_is_as_strict() -> None:
    for cut in range(650, len(BASELINE), 97):
        with pytest.raises(MediaError, match="truncated"):
            decode_image(BASELINE[:cut], min_side=1)


def harmless_jfif() -> bytes:
    return BASELINE.replace(b"JFIF\0\1\1", b"JFIF\0\7\1")


def harmless_scan() -> bytes:
    return BASELINE.replace(b"\0\x3f\0", b"\0\0\0", 1)


def harmless_profile() -> bytes:
    return BASELINE[:2] + b"\xff\xe2\0\x11ICC_PROFILE\0\0\0x" + BASELINE[2:]


@pytest.mark.parametrize("make", [harmless_jfif, harmless_scan, harmless_profile])
def test_odd_headers_that_harm_no_pixel_pass(make: Any) -> None:
    data = make()
    assert data != BASELINE
    assert code_of(data) is None
    assert np.array_equal(decode_image(data).pixels, decode_image(BASELINE).pixels)
    assert code_of(data[:-300]) == "truncated"


@pytest.mark.parametrize("name", ["jpeg RGB", "png RGB", "gif P", "webp RGB", "bmp RGB"])
def test_bytes_after_the_end_are_ignored(name: str) -> None:
    data = GOOD[name] + b"trailing" * 9
    assert np.array_equal(decode_image(data).pixels, decode_image(GOOD[name]).pixels)


PNG_HEAD = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
PNG_TAIL = chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
BOMB = zlib.compress(bytes(40 << 20))
HUGE = struct.pack(">HH", 60_000, 60_000)
AT_SIZE = BASELINE.index(b"\xff\xc0") + 5
BAD = {
    "empty": ("empty", b""),
    "NUL bytes": ("zeroed", bytes(4000)),
    "a web page": ("html", b"<!DOCTYPE html><title>404</title>"),
    "json": ("not_an_image", b'{"error": 1}'),
    "an archive": ("not_an_image", b"PK\3\4" + bytes(50)),
    "noise": ("not_an_image", b"\x9a\x01\x02" * 99),
    "svg": ("unsupported", b"<svg xmlns='x'/>"),
    "heic": ("unsupported", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x14ispe\0\0\0\0\0\0\0\x40\0\0\0\x40"),
    "jpeg, header only": ("truncated", BASELINE[:100]),
    "jpeg, no image data": ("truncated", BASELINE[:600]),
    "jpeg, cut in the middle": ("truncated", BASELINE[: len(BASELINE) // 2]),
    "jpeg, no end marker": ("truncated", BASELINE[:-2]),
    "jpeg, NUL from the middle": ("truncated", BASELINE[:1200] + bytes(len(BASELINE) - 1200)),
    "jpeg, flipped": ("corrupt", bytes(FLIPPED)),
    "jpeg, bytes missing": ("corrupt", BASELINE[:900] + BASELINE[1400:]),
    "jpeg, bomb header": ("bomb", BASELINE[:AT_SIZE] + HUGE + BASELINE[AT_SIZE + 4 :]),
    "jpeg, no height": ("zero_size", BASELINE[:AT_SIZE] + b"\0\0" + BASELINE[AT_SIZE + 2 :]),
    "jpeg, 12 bits": ("unsupported", BASELINE[: AT_SIZE - 1] + b"\x0c" + BASELINE[AT_SIZE:]),
    "jpeg, lossless": ("unsupported", BASELINE.replace(b"\xff\xc0", b"\xff\xc3", 1)),
    "jpeg, endless scans": ("bomb", BASELINE[:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 300 + b"\xff\xd9"),
    "jpeg, endless odd scans": ("bomb", BASELINE[:-2] + b"\0" + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 300),
    "png, cut in the header": ("truncated", PNG[:20]),
    "png, cut": ("truncated", PNG[: len(PNG) // 2]),
    "png, no IEND": ("truncated", PNG[:-12]),
    "png, bad CRC": ("corrupt", PNG.replace(b"IDAT", b"IDAT\x01", 1)[:-1]),
    "png, transparency misnamed": ("corrupt", GOOD["png P keyed"].replace(b"tRNS", b"uRNS")),
    "png, flipped": ("corrupt", PNG[:200] + bytes([PNG[200] ^ 1]) + PNG[201:]),
    "png, bad header CRC": ("corrupt", PNG[:29] + b"abcd" + PNG[33:]),
    "png, too little data": ("truncated", PNG_HEAD + chunk(b"IDAT", b"") + chunk(b"IEND", b"")),
    "png, profile bomb": ("bomb", PNG_HEAD + chunk(b"iCCP", b"p\0\0" + BOMB) + PNG_TAIL),
    "png, text bomb": ("bomb", PNG_HEAD + chunk(b"zTXt", b"k\0\0" + BOMB) + PNG_TAIL),
    "png, international bomb": ("bomb", PNG_HEAD + chunk(b"iTXt", b"k\0\1\0e\0k\0" + BOMB) + PNG_TAIL),
    "png, bomb header": ("bomb", PNG[:16] + struct.pack(">II", 60_000, 60_000) + PNG[24:]),
    "png, no width": ("zero_size", PNG[:16] + bytes(4) + PNG[20:]),
    "png, foreign chunk": ("unsupported", PNG_HEAD + chunk(b"CgBI", b"") + PNG_TAIL),
    "gif, no size": ("zero_size", GIF[:6] + bytes(4) + GIF[10:]),
    "gif, no trailer": ("truncated", GIF[:-1]),
    "gif, cut": ("truncated", GIF[: len(GIF) // 2]),
    "gif, no frame": ("corrupt", b"GIF89a\2\0\2\0\0\0\0;"),
    "webp, cut": ("truncated", GOOD["webp RGB"][:-40]),
    "bmp, cut": ("truncated", GOOD["bmp RGB"][:-1]),
    "tiff, cut": ("truncated", GOOD["tiff RGB"][:-1]),
    "ppm, cut": ("truncated", GOOD["ppm RGB"][:-1]),
}


@pytest.mark.parametrize("name", BAD)
def test_every_bad_kind_has_its_code(name: str) -> None:
    code, data = BAD[name]
    assert code_of(data) == code


def test_the_limit_on_pixels_is_the_callers() -> None:
    for data in GOOD.values():
        assert code_of(data, max_pixels=4799) == "bomb"
        assert code_of(data, max_pixels=4800) is None


def test_damaged_or_plain_text_in_a_png_harms_nothing() -> None:
    damaged = chunk(b"zTXt", b"k\0\0no zlib") + b"\0\0\0\4tEXtabcdWXYZ"
    assert code_of(PNG_HEAD + damaged + PNG_TAIL) is None


def test_a_jpeg_named_png_decodes_as_the_jpeg_it_is(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(BASELINE)
    data = path.read_bytes()
    assert extension_matches(path.name, probe(data).format) is False
    assert np.array_equal(decode_image(data).pixels, decode_image(BASELINE).pixels)


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(MediaError("corrupt", "bad CRC")))
    assert (error.code, error.detail, str(error)) == ("corrupt", "bad CRC", "corrupt: bad CRC")


def test_memory_running_out_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(pillow, "load", exhausted)
    monkeypatch.setattr(jpeg, "_turbo", exhausted)
    assert code_of(PNG) == code_of(BASELINE) == "bomb"


def test_what_is_global_in_pillow_neither_matters_nor_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    filters = list(warnings.filters)
    for name, (code, data) in BAD.items():
        assert code_of(data) == code, name
    for name, data in GOOD.items():
        assert code_of(data) is None, name
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert Image.MAX_IMAGE_PIXELS == 100
    assert warnings.filters == filters


def test_threads_share_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    wrong: list[str | None] = []

    def work() -> None:
        for _ in range(40):
            if (code := code_of(BAD["ppm, cut"][1])) != "truncated":
                wrong.append(code)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_no_warning_comes_of_a_good_picture() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, data in GOOD.items():
            assert code_of(data) is None, name


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    assert code_of(data) in MEDIA_ERRORS


@settings(max_examples=300)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_no_mutated_picture_raises_anything_else(name: str, draw: st.DataObject) -> None:
    data = bytearray(GOOD[name])
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=6)):
        data[at] ^= draw.draw(st.integers(1, 255))
    cut = draw.draw(st.none() | st.integers(0, len(data)))
    assert code_of(bytes(data[:cut]), max_pixels=1 << 22) in {None, *MEDIA_ERRORS}


@settings(max_examples=100)
@given(st.sampled_from(["png RGB", "png P keyed"]), st.data())
def test_any_flip_in_what_makes_a_pngs_pixels_is_found(name: str, draw: st.DataObject) -> None:
    data = bytearray(GOOD[name])
    data[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    assert code_of(bytes(data), max_pixels=1 << 22) is not None


def test_real_pictures_pass_and_the_damaged_one_fails(shared_data: Path) -> None:
    refused = {}
    rows = [json.loads(line) for line in (shared_data / "MANIFEST.jsonl").read_text().splitlines()]
    for row in rows:
        error = None if row["kind"] == "video" else check_image((shared_data / row["path"]).read_bytes())
        if error is not None:
            refused[row["path"]] = error.code
    assert refused == {row["path"]: "not_an_image" for row in rows if row["kind"] == "undecodable"}
    assert len(refused) == 1
