"""Families of what looks alike: when each applies, one decode, and clips told from one another."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from inputs import jpeg
from PIL import Image

from infinity_mm.media.decode import DEFAULT_MAX_PIXELS, Decoded, MediaError, decode_image
from infinity_mm.media.phash import SYMMETRIES
from infinity_mm.media.probe import probe
from infinity_mm.media.thumbnail import MARGIN, SIZE
from infinity_mm.sidecars import Family, table_of
from pipelines.measures import medium_look
from pipelines.measures.look_alike import CLIP_HASH, HASH, PIXELS, SYMMETRIC, THUMBNAIL
from pipelines.measures.medium_look import STILLS, MediumLook
from pipelines.measures.photometry import PHOTOMETRY
from pipelines.measures.validity import VALIDITY

DECODING = (HASH, SYMMETRIC, THUMBNAIL, CLIP_HASH)


def values(family: Family, look: MediumLook) -> dict[str, Any]:
    return dict(zip(family.measures, family.open({})(look), strict=True))


def look_at(data: bytes, kind: str = "image") -> MediumLook:
    return MediumLook({"kind": kind, "format": probe(data).format}, lambda: data, DEFAULT_MAX_PIXELS)


def moving(seed: int, seconds: float, rate: int, size: tuple[int, int], codec: str = "mpeg4") -> bytes:
    """Coarse shapes that pan over a scene of their own, the same at any rate and size."""
    scene = np.random.default_rng(seed).integers(0, 256, (9, 24), np.uint8)
    wide = Image.fromarray(scene).resize((960, 180), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    with av.open(out, "w", format="mp4" if codec == "mpeg4" else "webm") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(round(seconds * rate)):
            left = round(150 * i / (seconds * rate))
            shown = wide.crop((left, 0, left + 320, 180)).resize(size).convert("RGB")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(shown))))
        container.mux(stream.encode())
    return out.getvalue()


def apart(one: dict[str, Any], other: dict[str, Any]) -> list[int]:
    names = [f"clip_phash_{i}" for i in range(1, STILLS + 1)]
    return [(one[name] ^ other[name]).bit_count() for name in names]


def test_a_clip_is_told_by_its_frames_whatever_its_encoding() -> None:
    original = values(CLIP_HASH, look_at(moving(1, 1, 24, (320, 180)), "video"))
    assert original["clip_duration"] == pytest.approx(1, abs=0.05)
    assert all(original[f"clip_phash_margin_{i}"] > MARGIN for i in range(1, STILLS + 1))
    for copy in (moving(1, 1, 12, (160, 90)), moving(1, 1, 24, (160, 90), "libvpx")):
        assert max(apart(original, values(CLIP_HASH, look_at(copy, "video")))) <= 8
    assert min(apart(original, values(CLIP_HASH, look_at(moving(2, 1, 12, (160, 90)), "video")))) > 12


def test_real_clips_are_different(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("*/videos/*.mp4"))
    found = [values(CLIP_HASH, look_at(path.read_bytes(), "video")) for path in paths]
    pairs = [(one, other) for i, one in enumerate(found) for other in found[:i]]
    assert len(pairs) >= 3 and all(max(apart(*pair)) > 12 for pair in pairs)


def test_what_each_applies_to() -> None:
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8))
    photograph = look_at(encoded(scene.resize((200, 150), Image.Resampling.BICUBIC)))
    clip = look_at(moving(1, 0.5, 10, (64, 48)), "video")
    white = look_at(encoded(Image.new("L", (200, 150), 255)))
    assert values(THUMBNAIL, photograph) == {"thumbnail": None} == values(THUMBNAIL, clip)
    pale = Image.fromarray(np.random.default_rng(0).integers(150, 256, (9, 12, 3), np.uint8))
    pale_one = look_at(encoded(pale.resize((200, 150), Image.Resampling.BICUBIC)))
    assert (
        len(values(THUMBNAIL, pale_one)["thumbnail"]) == SIZE
    )  # of a copy that is blown the hash says little
    assert len(values(THUMBNAIL, white)["thumbnail"]) == SIZE
    assert len(set(values(SYMMETRIC, photograph).values())) == len(SYMMETRIES)
    assert all(value is not None for value in values(HASH, photograph).values())
    for family, other in ((HASH, clip), (SYMMETRIC, clip), (CLIP_HASH, photograph), (PIXELS, clip)):
        assert set(values(family, other).values()) == {None}
    assert len(values(PIXELS, photograph)["pixel_digest"]) == 16
    assert all(value is not None for value in values(CLIP_HASH, clip).values())
    for family in (*DECODING, PIXELS):
        looks = [photograph, white, clip]
        table_of(family, [(bytes(16), *family.open({})(look), None) for look in looks])


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


@pytest.mark.parametrize("name", [*SYMMETRIC.measures, "phash"])
def test_hashes_fit_their_type(name: str) -> None:
    assert (SYMMETRIC.measures | HASH.measures)[name].type == pa.uint64()


def test_one_decode_of_each_kind_serves_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(name: str) -> None:
        original: Callable[..., Any] = getattr(medium_look, name)

        def counting(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return original(*args, **options)

        monkeypatch.setattr(medium_look, name, counting)

    for name in ("decode_image", "luma_look", "measured", "watch", "working"):
        counted(name)
    every: Sequence[Family] = (VALIDITY, PHOTOMETRY, *DECODING)
    for look in (look_at(jpeg(1)), look_at(moving(1, 0.5, 10, (64, 48)), "video")):
        for family in every:
            family.open({})(look)
    assert sorted(calls) == ["decode_image", "decode_image", "luma_look", "measured", "watch", "working"]


def test_a_photograph_is_hashed_from_a_gray_decode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def decode(*args: Any, **options: Any) -> Decoded:
        asked.append(options["channels"])
        return decode_image(*args, **options)

    monkeypatch.setattr(medium_look, "decode_image", decode)
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8))
    photograph = scene.resize((200, 150), Image.Resampling.BICUBIC)
    for form in ("JPEG", "PNG"):
        look = look_at(encoded(photograph, form))
        for family in (HASH, SYMMETRIC, THUMBNAIL):
            family.open({})(look)
    assert asked == [1, 4]  # in colour where gray is no faster: it then serves all the others too


@pytest.mark.parametrize("family", [HASH, SYMMETRIC, THUMBNAIL, PIXELS], ids=lambda family: family.name)
def test_a_damaged_picture_fails(family: Family) -> None:
    with pytest.raises(MediaError):
        family.open({})(look_at(jpeg(1)[:200]))


def test_a_damaged_clip_fails() -> None:
    with pytest.raises(MediaError):
        CLIP_HASH.open({})(look_at(moving(1, 0.5, 10, (64, 48))[:-300], "video"))
