"""The finer hash: the same everywhere, near for copies, far for other pages."""

import io
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from infinity_mm.fine_hash import BITS, BYTES, LIKE, NEAR, apart, fine_hashes
from infinity_mm.media.photometry import working
from infinity_mm.media.thumbnail import COLOUR_SIDE, SIDE, SIZE, thumbnail

CELLS = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE


def page(seed: int) -> Image.Image:
    """A page of one layout, whatever the seed: lines of words that differ."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (480, 640), "white")
    pen = ImageDraw.Draw(image)
    for line in range(12):
        x = 30
        while x < 420:
            width = int(draw.integers(12, 60))
            pen.rectangle((x, 30 + 50 * line, x + width, 50 + 50 * line), fill="black")
            x += width + 12
    return image


def hashed(*images: Image.Image) -> np.ndarray:
    rows = [thumbnail(working(np.asarray(image.convert("RGB"))), min(image.size)) for image in images]
    return fine_hashes(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), SIZE))


def copied(image: Image.Image, quality: int, scale: float = 1) -> Image.Image:
    buffer = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale))).save(
        buffer, "JPEG", quality=quality
    )
    return Image.open(buffer)


def test_copies_are_near_and_other_pages_far() -> None:
    pages = [page(seed) for seed in range(12)]
    own = hashed(*pages)
    assert (apart(own, own) == 0).all()
    for scale in (1, 0.75, 1.5):
        assert apart(own, hashed(*(copied(image, 50, scale) for image in pages))).max() <= NEAR
    for shift in range(1, len(pages)):
        assert apart(own, np.roll(own, shift, axis=0)).min() > LIKE


def test_another_word_is_seen_and_another_colour() -> None:
    image = page(1)
    pen = ImageDraw.Draw(image)
    pen.rectangle((30, 30, 200, 130), fill="white")
    assert apart(hashed(page(1)), hashed(image)).item() > NEAR
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("#c00000", "#0000c0"))
    assert apart(hashed(red), hashed(blue)).item() > LIKE


def test_what_is_hashed_is_the_same_everywhere() -> None:
    cells = np.arange(3 * CELLS, dtype=np.uint64) * np.uint64(2654435761) >> np.uint64(13)
    rows = np.zeros((3, SIZE), np.uint8)
    rows[:, :CELLS] = cells.astype(np.uint8).reshape(3, CELLS)
    found = fine_hashes(rows)
    assert found.shape == (3, BYTES)
    assert sha256(found.tobytes()).hexdigest()[:16] == "ac950c2b5fd0f88c"


@given(st.integers(0, 2**32 - 1))
def test_bits_are_random(seed: int) -> None:
    """What has nothing in common differs in half of all bits, in the worst blocks in more."""
    two = np.random.default_rng(seed).integers(0, 256, (2, SIZE), np.uint8)
    one, other = fine_hashes(two)
    differ = np.unpackbits(one ^ other).mean()
    assert 0.4 < differ < 0.6
    assert 2 * BITS < apart(one[None], other[None]).item() <= 4 * BITS


def test_any_number_at_once_is_the_same() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (300, SIZE), np.uint8)
    assert (fine_hashes(rows)[255:258] == np.concatenate([fine_hashes(r[None]) for r in rows[255:258]])).all()
    assert fine_hashes(rows[:0]).shape == (0, BYTES)


def test_what_is_no_thumbnail_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 of \[N,"):
        fine_hashes(np.zeros((2, SIZE + 1), np.uint8))
