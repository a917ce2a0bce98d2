"""How a model draws where nothing else is asked: `drawing.json` in its exported folder.

It is a file of its own because transformers would apply a guidance of `generation_config.json` to answers
too. A folder without it draws as the published Emu3 does: guidance 3, top-k 2048, 720 x 720 pixels
(baaivision/Emu3).
"""

import json
from dataclasses import asdict, dataclass, field
from math import isqrt
from pathlib import Path

from trainers.emu3.choose import Sampling

NAME = "drawing.json"
SIDE = 720  # pixels of the published model's drawings


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """A model's own way to draw."""

    sampling: Sampling = field(default_factory=lambda: Sampling(guidance=3.0, top_k=2048))
    height: int = SIDE  # pixels
    width: int = SIDE


def read_defaults(folder: Path) -> Defaults:
    """Those of an exported folder. Raises ValueError for a file that does not say them."""
    file = folder / NAME
    if not file.is_file():
        processor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        most, factor = processor["max_pixels"], processor["spatial_factor"]
        side = min(SIDE, isqrt(most) // factor * factor)
        return Defaults(height=side, width=side)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return Defaults(height=said.pop("height"), width=said.pop("width"), sampling=Sampling(**said))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} does not say how to draw: {error}") from None


def write_defaults(folder: Path, defaults: Defaults) -> None:
    said = {"height": defaults.height, "width": defaults.width, **asdict(defaults.sampling)}
    (folder / NAME).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
