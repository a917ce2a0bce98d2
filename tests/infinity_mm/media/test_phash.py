"""The perceptual hash: against imagehash, and what it says of pictures that have none."""

import json
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from infinity_mm.media.decode import decode_image
from infinity_mm.media.luma_look import luma_look
from infinity_mm.media.phash import SYMMETRIES, phash, symmetric_bits, turned
from infinity_mm.media.photometry import MIN_SIDE, working


def waves(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 luma of random low frequencies: what a hash is made of."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Resampling.BICUBIC))


def by_imagehash(luma: np.ndarray) -> int:
    return int(str(imagehash.phash(Image.fromarray(luma))), 16)


@pytest.mark.parametrize("height, width", [(32, 32), (33, 90), (64, 64), (120, 500), (224, 224), (301, 260)])
def test_bits_are_those_of_imagehash(height: int, width: int) -> None:
    for seed in range(5):
        luma = waves(height, width, seed)
        assert (phash(luma).bits ^ by_imagehash(luma)).bit_count() <= 2


def coefficients(luma: np.ndarray) -> np.ndarray:
    """[8, 8], by the definition of the DCT-II in waves of unit mean square; Pillow resamples in floats."""
    small = Image.fromarray(luma.astype(np.float32)).resize((32, 32), Resampling.LANCZOS)
    waves = np.array([np.cos(np.pi * k * (2 * np.arange(32) + 1) / 64) for k in range(8)])
    waves /= np.sqrt((waves**2).mean(axis=1, keepdims=True))
    return waves @ np.asarray(small, np.float64) @ waves.T / 32**2


@pytest.mark.parametrize(
    "height, width", [(9, 20), (32, 32), (150, 224), (224, 224), (100, 3_000), (3_000, 12)]
)
def test_bits_and_margin_are_those_of_the_definition(height: int, width: int) -> None:
    for seed in range(5):
        luma = waves(height, width, seed)
        found, expected = phash(luma), coefficients(luma).reshape(-1)
        distance = expected - np.median(expected)
        assert found.margin == pytest.approx(np.median(np.abs(distance)), abs=0.01)
        bits = found.bits ^ int.from_bytes(np.packbits(distance > 0).tobytes(), "big")
        assert all(abs(distance[63 - i]) < 0.01 for i in range(64) if bits >> i & 1)


def test_small_pictures_are_enlarged() -> None:
    for height, width in ((1, 1), (1, 9), (9, 1), (5, 7), (31, 20)):
        found = phash(waves(height, width))
        assert 0 <= found.bits < 1 << 64 and found.margin >= 0


@pytest.mark.parametrize("level", [1, 76, 29, 255])
def test_pictures_of_one_colour_share_a_hash_and_have_no_margin(level: int) -> None:
    assert phash(np.full((200, 150), level, np.uint8)) == (1 << 63, 0)
    assert phash(np.zeros((40, 40), np.uint8)) == (0, 0)


def test_the_margin_is_in_gray_levels() -> None:
    luma = waves(128, 128).astype(np.float32)
    assert phash(luma / 2).margin == pytest.approx(phash(luma).margin / 2, abs=0.002)
    assert phash(luma).margin > 1
    stripes = 128 + 10 * np.sqrt(2) * np.cos(np.arange(128) * np.pi * 4 / 128)[:, None] * np.ones(128)
    assert phash(stripes).margin == 0 and phash(stripes).bits >> 62 == 0b10


def test_real_photographs_hash_as_imagehash_has_them(shared_data: Path) -> None:
    rows = (shared_data / "MANIFEST.jsonl").read_text().splitlines()
    photographs = [row for row in map(json.loads, rows) if row["path"].startswith(("coco_", "flickr8k/"))]
    distances = []
    for row in photographs[::8]:
        data = (shared_data / row["path"]).read_bytes()
        luma = decode_image(data, min_side=MIN_SIDE, channels=1).pixels[:, :, 0]
        distances.append((luma_look(luma).phash ^ int(row["phash"], 16)).bit_count())
    assert len(distances) > 90
    assert max(distances) <= 6 and np.mean(distances) < 1


@pytest.mark.parametrize("height, width", [(32, 32), (150, 224), (301, 97), (9, 20)])
def test_hashes_of_symmetries_are_those_of_the_turned_picture(height: int, width: int) -> None:
    for seed in range(5):
        luma = waves(height, width, seed)
        found = symmetric_bits(luma)
        for number, bits in enumerate(found, 1):
            assert (bits ^ phash(turned(luma, number)).bits).bit_count() <= 1
        assert len({phash(luma).bits, *found}) == 8


def test_symmetries_do_what_their_names_say() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(picture)
    ways = Image.Transpose
    wanted = {
        **{
            "mirrored": ways.FLIP_LEFT_RIGHT,
            "upside_down": ways.FLIP_TOP_BOTTOM,
            "turned_180": ways.ROTATE_180,
        },
        **{"transposed": ways.TRANSPOSE, "turned_270": ways.ROTATE_90, "turned_90": ways.ROTATE_270},
        "transversed": ways.TRANSVERSE,
    }
    assert set(wanted) == set(SYMMETRIES)
    for number, name in enumerate(SYMMETRIES, 1):
        assert np.array_equal(turned(picture, number), np.asarray(image.transpose(wanted[name]))), name
    assert np.array_equal(turned(picture, 0), picture)


def test_symmetries_of_real_photographs(shared_data: Path) -> None:
    apart = []
    for path in sorted((shared_data / "coco_mini/images").iterdir())[::6]:
        pixels = decode_image(path.read_bytes(), min_side=MIN_SIDE, channels=4).pixels
        found = symmetric_bits(working(pixels).luma)
        for number, bits in enumerate(found, 1):
            other = turned(pixels[:, :, :3].transpose(2, 0, 1), number).transpose(1, 2, 0)
            apart.append((bits ^ phash(working(other).luma).bits).bit_count())
    assert len(apart) == 70 and max(apart) <= 4
