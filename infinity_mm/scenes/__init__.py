"""The small world: pictures, clips and conversations of known truth, with defects planted on request."""

from .config import ScenesConfig
from .write import make_scenes

__all__ = ["ScenesConfig", "make_scenes"]
