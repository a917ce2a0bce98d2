"""One medium as measures look at it: its bytes are read once, and decoded once, however many families ask.

A JPEG may be decoded once more, in gray: that takes two thirds of the time, and is all a hash needs.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from infinity_mm.media.decode import Decoded, MediaError, decode_image
from infinity_mm.media.index import Unavailable
from infinity_mm.media.luma_look import LumaLook, luma_look
from infinity_mm.media.photometry import MIN_SIDE, Photometry, Working, measured, working
from infinity_mm.media.video import VideoInfo, watch

STILLS = 4  # frames of a clip that are looked at

Found = TypeVar("Found")


class MediumLook:
    """`info`: its MEDIA row, known without reading; `read`: gives its bytes or raises Unavailable."""

    def __init__(self, info: dict[str, Any], read: Callable[[], bytes], max_pixels: int) -> None:
        self.info = info
        self.max_pixels = max_pixels
        self._read = read
        self._kept: dict[str, Any] = {}

    @property
    def is_video(self) -> bool:
        return bool(self.info["kind"] == "video")

    def data(self) -> bytes:
        """The bytes. Raises Unavailable."""
        return self._once("data", self._read)

    def picture(self) -> Decoded:
        """The first frame of a picture, its shorter side MIN_SIDE or more. Raises MediaError, Unavailable."""
        return self._once(
            "picture",
            lambda: decode_image(self.data(), max_pixels=self.max_pixels, min_side=MIN_SIDE, channels=4),
        )

    def working(self) -> Working:
        """The working picture that is measured. Raises MediaError, Unavailable."""
        return self._once("working", lambda: working(self.picture().pixels))

    def photometry(self) -> Photometry:
        """The measures of `picture`. Raises MediaError, Unavailable."""
        return self._once("photometry", lambda: measured(self.working()))

    def luma(self) -> LumaLook:
        """What the luma of a picture says. Raises MediaError, Unavailable."""
        return self._once("luma", self._luma)

    def _luma(self) -> LumaLook:
        if self.info["format"] != "jpeg":  # no decoder of others is faster without colours
            return luma_look(self.working().luma)
        decoded = decode_image(self.data(), max_pixels=self.max_pixels, min_side=MIN_SIDE, channels=1)
        return luma_look(decoded.pixels[:, :, 0])

    def clip(self) -> VideoInfo:
        """What a full strict decode of a clip finds. Raises MediaError, Unavailable."""
        return self._watched()[0]

    def stills(self) -> list[np.ndarray]:
        """The luma of STILLS frames of a clip, or of none: see `watch`. Raises MediaError, Unavailable."""
        return self._watched()[1]

    def _watched(self) -> tuple[VideoInfo, list[np.ndarray]]:
        return self._once("clip", lambda: watch(self.data(), STILLS))

    def _once(self, name: str, make: Callable[[], Found]) -> Found:
        """What `make` gave or raised the first time."""
        if name not in self._kept:
            try:
                self._kept[name] = make()
            except (MediaError, Unavailable) as error:
                self._kept[name] = error
        kept = self._kept[name]
        if isinstance(kept, (MediaError, Unavailable)):
            raise kept
        return kept
