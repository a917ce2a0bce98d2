"""Each spoiled picture has the property its defect claims."""

import warnings

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from infinity_mm.scenes.draw import decode, picture
from infinity_mm.scenes.world import draw_shapes


def cases(drawn, defect):
    found = drawn.of(defect)
    assert len(found) >= 5
    return [(truth, drawn.bytes_of(truth)) for _, truth in found]


@pytest.mark.parametrize("defect", ["corrupt_bytes", "truncated"])
def test_no_decoder_reads_it(drawn, defect):
    for truth, data in cases(drawn, defect):
        with pytest.raises((OSError, SyntaxError, ValueError)):
            decode(data)
        if truth["files"][0].endswith(".jpg"):
            with pytest.raises(ValueError):
                simplejpeg.decode_jpeg(data, strict=True)


def test_flipped_bits_pass_pillow_and_fail_a_strict_decode(drawn):
    for _, data in cases(drawn, "bit_flipped"):
        assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
        decode(data)
        with pytest.raises(ValueError):
            simplejpeg.decode_jpeg(data, strict=True)


def test_html_is_no_picture(drawn):
    for truth, data in cases(drawn, "html_as_jpg"):
        assert data.startswith(b"<!DOCTYPE html>") and truth["files"][0].endswith(".jpg")
        with pytest.raises(OSError):
            decode(data)


def test_zero_bytes(drawn):
    for truth, data in cases(drawn, "zero_bytes"):
        assert not data.strip(b"\0")
        assert (data == b"") == (truth["detail"]["sub_kind"] == "empty")


def test_wrong_extension_decodes_as_the_other_format(drawn):
    for truth, data in cases(drawn, "wrong_extension"):
        assert decode(data).size == (64, 64)
        png = data.startswith(b"\x89PNG")
        assert truth["files"][0].endswith(".jpg" if png else ".png")


def test_tiny(drawn):
    for truth, data in cases(drawn, "tiny"):
        image = decode(data)
        assert image.size == (truth["detail"]["width"], truth["detail"]["height"]) and max(image.size) <= 4


def test_huge_is_small_in_bytes_and_valid(drawn):
    for truth, data in cases(drawn, "huge"):
        assert len(data) < 40_000
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(drawn.folder / truth["files"][0]) as image:
                assert image.size == (truth["detail"]["width"], truth["detail"]["height"])
                assert image.width * image.height > 100_000_000 or image.width >= 30_000
                if truth["detail"]["sub_kind"] == "wide":
                    image.load()


def test_blank_is_one_colour(drawn):
    for truth, data in cases(drawn, "blank"):
        pixels = np.asarray(decode(data), int)
        assert np.ptp(pixels, axis=(0, 1)).max() <= 2
        assert np.abs(pixels[0, 0] - truth["detail"]["rgb"]).max() <= 4


def edges(image: Image.Image) -> float:
    gray = np.asarray(image.convert("L"), float)
    return float(max(np.abs(np.diff(gray, axis=0)).max(), np.abs(np.diff(gray, axis=1)).max()))


def test_blurred_has_no_sharp_edge(drawn):
    for _, data in cases(drawn, "blurred"):
        assert edges(decode(data)) < 25
    clean = [t for _, t in drawn.clean() if t["medium"] == "image"][:60]
    assert np.median([edges(decode(drawn.bytes_of(t))) for t in clean]) > 50


def white(image: Image.Image) -> float:
    return float((np.asarray(image).min(axis=2) >= 248).mean())


def test_over_exposed_is_mostly_white(drawn):
    assert all(white(decode(data)) >= 0.6 for _, data in cases(drawn, "over_exposed"))
    clean = [t for _, t in drawn.clean() if t["medium"] == "image"]
    assert max(white(decode(drawn.bytes_of(t))) for t in clean) < 0.3


def test_a_picture_is_the_same_each_time():
    rng = np.random.default_rng(0)
    scene = draw_shapes(rng, 64, 4)
    assert picture(scene).tobytes() == picture(scene).tobytes()
