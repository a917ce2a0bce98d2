"""How many image tokens a picture or clip has: exact integer arithmetic from its width and height."""

from typing import Literal, NamedTuple


class Visual(NamedTuple):
    """A picture or clip as a model takes it: the only picture of its sample, one of several, or a clip."""

    kind: Literal["single", "several", "clip"]
    width: int  # pixels, upright
    height: int
    frames: int = 1
