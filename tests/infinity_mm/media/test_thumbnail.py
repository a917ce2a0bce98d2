"""The second test: which pictures need it, what it takes for the same, and what it tells apart."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from infinity_mm.media.decode import decode_image
from infinity_mm.media.luma_look import luma_look
from infinity_mm.media.phash import SYMMETRIES, turned
from infinity_mm.media.photometry import MIN_SIDE, working
from infinity_mm.media.thumbnail import (
    SIZE,
    TOLERANCE,
    alike,
    coarse,
    coarsely_alike,
    low_information,
    symmetric,
    thumbnail,
)

COLOURS = ("black", "white", "red", "blue")


def encoded(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def seen(data: bytes) -> np.ndarray:
    """uint8 [1, SIZE]."""
    found = decode_image(data, min_side=MIN_SIDE, channels=4)
    cells = thumbnail(working(found.pixels), min(found.width, found.height))
    return np.frombuffer(cells, np.uint8)[None]


def same(one: bytes, other: bytes) -> bool:
    both = seen(one), seen(other)
    return bool(coarsely_alike(*map(coarse, both))[0] and alike(*both)[0])


def is_low(data: bytes, wider: float = 1) -> bool:
    found = luma_look(decode_image(data, min_side=MIN_SIDE, channels=1).pixels[:, :, 0])
    measures = found.luma_uniformity, found.luma_drawn, found.phash_margin
    return bool(low_information(*measures, wider=wider))


def receipt(total: str, size: int = 30) -> Image.Image:
    """Lines of one template; the last but two is the total."""
    image = Image.new("RGB", (420, 640), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    lines = (
        "CITY STORES LTD",
        "12 HIGH STREET",
        "Tea          3.20",
        "Bread        1.75",
        "",
        f"TOTAL {total}",
    )
    for i, line in enumerate((*lines, "", "THANK YOU")):
        draw.text((30, 30 + 70 * i), line, "black", font)
    return image


def bars(heights: tuple[int, ...], colour: str = "steelblue") -> Image.Image:
    image = Image.new("RGB", (500, 360), "white")
    draw = ImageDraw.Draw(image)
    draw.line([(40, 20), (40, 320), (480, 320)], "black", 2)
    for i, height in enumerate(heights):
        draw.rectangle([60 + 80 * i, 320 - height, 110 + 80 * i, 320], colour)
    return image


DOCUMENTS = {"receipt": receipt("14.95"), "bars": bars((120, 240, 90, 200, 160))}


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (20, 2000)])
def test_black_white_red_and_blue_are_four(size: tuple[int, int]) -> None:
    plain = {colour: encoded(Image.new("RGB", size, colour)) for colour in COLOURS}
    assert all(is_low(data) for data in plain.values())
    for one in COLOURS:
        for other in COLOURS:
            assert same(plain[one], plain[other]) == (one == other)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_rescaled_or_recompressed_document_is_the_same(name: str) -> None:
    image = DOCUMENTS[name]
    original = encoded(image)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    odd = image.resize((image.width * 7 // 10, image.height * 7 // 10), Image.Resampling.BICUBIC)
    for copy in (
        encoded(half),
        encoded(half, "JPEG", quality=75),
        encoded(image, "JPEG", quality=40),
        encoded(odd, "JPEG", quality=60),
    ):
        assert is_low(original) and is_low(copy, wider=0.75)
        assert same(original, copy) and same(copy, original)


def test_another_word_digit_or_bar_is_another_document() -> None:
    assert not same(encoded(receipt("14.95")), encoded(receipt("27.30")))
    assert not same(encoded(receipt("14.95", 40)), encoded(receipt("74.95", 40)))
    one = DOCUMENTS["bars"]
    assert not same(encoded(one), encoded(bars((120, 240, 90, 200, 130))))
    assert not same(encoded(one), encoded(bars((120, 240, 90, 200))))
    other = one.copy()
    ImageDraw.Draw(other).rectangle([220, 230, 270, 320], "#b2681e")  # as light as steelblue
    assert not same(encoded(one), encoded(other))


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("number", range(1, 8))
def test_a_turned_thumbnail_is_that_of_the_turned_picture(name: str, number: int) -> None:
    pixels = np.asarray(DOCUMENTS[name])
    other = turned(pixels.transpose(2, 0, 1), number).transpose(1, 2, 0)
    wanted = seen(encoded(Image.fromarray(np.ascontiguousarray(other))))
    found = symmetric(seen(encoded(DOCUMENTS[name])), number)
    assert alike(found, wanted)[0], SYMMETRIES[number - 1]
    most = 16 if number & 4 else 3  # Pillow rounds and clips between the two directions
    assert np.abs(found.astype(int) - wanted).max() <= most


def test_coarse_values_are_means_of_blocks() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (3, SIZE), np.uint8)
    found = coarse(thumbnails)
    assert found.shape == (3, len(TOLERANCE)) and found.dtype == np.uint8
    luma = thumbnails[:, :4096].reshape(3, 64, 64)
    assert found[1, 1] == pytest.approx(luma[1, :8, 8:16].mean(), abs=0.51)
    assert found[2, 83] == pytest.approx(luma[2, 32:, 32:].mean(), abs=0.51)


def test_every_pair_of_many_is_told_as_alone() -> None:
    pictures = [encoded(receipt(f"{i}.{i}{i}")) for i in range(1, 5)]
    pictures += [encoded(receipt("1.11").resize((400, 610)), "JPEG")]
    thumbnails = np.concatenate([seen(data) for data in pictures])
    one, other = (part.ravel() for part in np.indices((5, 5)))
    alone = [
        bool(alike(thumbnails[i : i + 1], thumbnails[j : j + 1])[0]) for i, j in zip(one, other, strict=True)
    ]
    assert alike(
        np.repeat(thumbnails[one], 20, axis=0), np.repeat(thumbnails[other], 20, axis=0)
    ).tolist() == [value for value in alone for _ in range(20)]
    assert sum(alone) == 5 + 2  # each with itself, and the first with its copy in both orders


def test_real_documents_are_of_low_information_and_photographs_are_not(shared_data: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "MANIFEST.jsonl").read_text().splitlines()]

    def share(*sources: str) -> float:
        paths = [row["path"] for row in rows if row["path"].partition("/")[0] in sources][::9]
        return float(np.mean([is_low((shared_data / path).read_bytes()) for path in paths]))

    assert share("sroie", "chartqa", "opencqa", "tabmwp", "mathv", "gaokao_mm") == 1
    assert share("flickr8k", "coco_mini", "coco_pairs_full") < 0.08
