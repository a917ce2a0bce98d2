"""What tells pictures and clips that are equal or look alike."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.media.phash import SYMMETRIES, phash, symmetric_bits
from infinity_mm.media.pixels import pixel_digest
from infinity_mm.media.thumbnail import WIDER, low_information, thumbnail
from infinity_mm.media.tone import is_pale
from infinity_mm.sidecars import Family, Measure
from pipelines.measures.medium_look import STILLS, MediumLook

HASH_TYPE = pa.uint64()
PICTURES = ("pillow", "simplejpeg", "numpy")
GRAY, CLIP = "gray decode", "clip decode"


def hashed(look: MediumLook) -> Sequence[Any]:
    """The measures of HASH; not applicable to clips. Raises MediaError and Unavailable."""
    if look.is_video:
        return (None,) * len(HASH.measures)
    return look.luma()[1:]


def symmetric_hashes(look: MediumLook) -> Sequence[Any]:
    """The measures of SYMMETRIC; not applicable to clips. Raises MediaError and Unavailable."""
    if look.is_video:
        return (None,) * len(SYMMETRIES)
    return symmetric_bits(look.luma().working)


def second_test(look: MediumLook) -> Sequence[Any]:
    """The measure of THUMBNAIL; not applicable to clips and where the hash is far from being too little,
    that of a brighter copy too."""
    if look.is_video:
        return (None,)
    working, _, margin, uniformity, drawn = look.luma()
    if not low_information(uniformity, drawn, margin, wider=WIDER) and not is_pale(working):
        return (None,)
    picture = look.picture()
    return (thumbnail(look.working(), min(picture.width, picture.height)),)


def clip_hashes(look: MediumLook) -> Sequence[Any]:
    """The measures of CLIP_HASH; not applicable to pictures. Raises MediaError and Unavailable."""
    if not look.is_video:
        return (None,) * (2 * STILLS + 1)
    hashes = [phash(luma) for luma in look.stills()]
    if not hashes:
        return (None,) * (2 * STILLS) + (look.clip().duration,)
    return (*(h.bits for h in hashes), *(h.margin for h in hashes), look.clip().duration)


def pixels(look: MediumLook) -> Sequence[Any]:
    """The measure of PIXELS; not applicable to clips. Raises MediaError and Unavailable."""
    return (None if look.is_video else pixel_digest(look.data(), max_pixels=look.max_pixels),)


def _opening(measure: Callable[[MediumLook], Sequence[Any]]) -> Callable[..., Any]:
    def opened(settings: dict[str, Any]) -> Callable[[MediumLook], Sequence[Any]]:
        return measure

    return opened


HASH = Family(
    "hash",
    "media",
    1,
    {
        "phash": Measure(HASH_TYPE, "64 bits", "perceptual hash, bits as in imagehash", "Zauner 2010"),
        "phash_margin": Measure(
            pa.float32(), "levels", "how far the hash's bits are from flipping; near 0 it means nothing"
        ),
        "luma_uniformity": Measure(pa.float32(), "share", "pixels of one gray, within 8 levels"),
        "luma_drawn": Measure(pa.float32(), "share", "area that looks drawn or printed, text or not"),
    },
    _opening(hashed),
    PICTURES,
    GRAY,
)
SYMMETRIC = Family(
    "symmetries",
    "media",
    2,
    {
        f"phash_{name}": Measure(
            HASH_TYPE, "64 bits", f"perceptual hash of the picture {name.replace('_', ' ')}"
        )
        for name in SYMMETRIES
    },
    _opening(symmetric_hashes),
    PICTURES,
    GRAY,
)
THUMBNAIL = Family(
    "thumbnail",
    "media",
    2,
    {
        "thumbnail": Measure(
            pa.binary(),
            "64 by 64 cells",
            "second test where the perceptual hash says little: text, charts, blank",
        )
    },
    _opening(second_test),
    PICTURES,
    GRAY,
)
_PARTS = range(1, STILLS + 1)
CLIP_HASH = Family(
    "clip_hash",
    "media",
    1,
    {
        f"clip_phash_{i}": Measure(HASH_TYPE, "64 bits", f"perceptual hash amid part {i} of {STILLS}")
        for i in _PARTS
    }
    | {
        f"clip_phash_margin_{i}": Measure(
            pa.float32(), "levels", f"how far the bits of clip_phash_{i} are from flipping"
        )
        for i in _PARTS
    }
    | {"clip_duration": Measure(pa.float32(), "seconds", "as the container says")},
    _opening(clip_hashes),
    ("av", "numpy"),
    CLIP,
)
PIXELS = Family(
    "pixel_digest",
    "media",
    1,
    {
        "pixel_digest": Measure(
            pa.binary(16),
            "sha256, 16 bytes",
            "of the decoded pixels of every frame, upright, with their shape",
        )
    },
    _opening(pixels),
    PICTURES,
    "full decode",
)
