"""A small held-out benchmark, of which some training records are leaks.

Its pictures hold three or more objects, texts or charts, so that training pictures are hardly ever like
them by chance.
"""

import copy
from dataclasses import dataclass

from .config import ScenesConfig
from .conversations import Content, assemble, exchanges_for
from .draw import encode, picture
from .randomness import BENCHMARK, stream
from .world import draw_chart, draw_shapes, draw_text

ITEMS = 20
KINDS = ("count", "relation", "colour", "chart", "shape", "read_text")


@dataclass(frozen=True)
class Item:
    """One item; the content's file lies under benchmark/."""

    id: str
    kind: str
    made: Content

    def content(self) -> Content:
        """A copy of the content that the caller may change."""
        return copy.deepcopy(self.made)


def make_benchmark(config: ScenesConfig) -> list[Item]:
    """Twenty items of one question each, from the seed alone."""
    return [_item(config, index) for index in range(ITEMS)]


def _item(config: ScenesConfig, index: int) -> Item:
    rng = stream(config.seed, index, BENCHMARK)
    kind, lang = KINDS[index % len(KINDS)], "zh" if index % 4 == 3 else "en"
    while True:
        if kind in ("chart", "read_text"):
            scene = (draw_chart if kind == "chart" else draw_text)(rng, config.size)
        else:
            scene = draw_shapes(rng, config.size, 3 + index % 3)
        exchanges = exchanges_for(config, scene, kind, lang, rng)
        if exchanges:
            break
    content = assemble("image", lang, [scene], exchanges)
    form = ("png", "jpg")[index % 2]
    name = f"benchmark/{index:03d}.{form}"
    content.media, content.files = [name], {name: encode(picture(scene), form)}
    return Item(f"benchmark-{config.seed}-{index:03d}", kind, content)
