"""What is told of each benchmark: how much of it is in the data, and what could not be compared."""

from typing import Any

import numpy as np

from pipelines.decontaminate.config import DecontaminateConfig
from pipelines.decontaminate.items import Items
from pipelines.decontaminate.leaks import Leaks, Way


def told(config: DecontaminateConfig, items: Items, leaks: Leaks) -> list[dict[str, Any]]:
    """Of each benchmark, in the order given: `items`; `leaked`: items that some sample is dropped for;
    `dropped`: samples dropped for it, and for none before it; `samples`: by each way that was compared, the
    samples that it finds alone. The items that this comparison can't find: `no_question` (by picture and
    question), `too_short` and `too_common` (by text alone)."""
    size = len(items.names)
    dropped = np.bincount(items.benchmark[leaks.item[leaks.item >= 0]], minlength=size)
    leaked = _items_of(items, leaks.chosen.leaked)
    samples = {name: _samples_of(items, way) for name, way in leaks.ways.items()}
    unable = {name: _items_of(items, mask) for name, mask in _unable(config, items, leaks).items()}
    return [
        {
            "name": name,
            "file": config.against[b],
            "items": int(items.bounds[b + 1] - items.bounds[b]),
            "leaked": int(leaked[b]),
            "dropped": int(dropped[b]),
            "samples": {way: int(counts[b]) for way, counts in samples.items()},
            **{why: int(counts[b]) for why, counts in unable.items()},
        }
        for b, name in enumerate(items.names)
    ]


def _items_of(items: Items, mask: np.ndarray) -> np.ndarray:
    """int64 [benchmarks]: how many of the items that a mask names are of each."""
    return np.bincount(items.benchmark[mask], minlength=len(items.names))


def _samples_of(items: Items, way: Way) -> np.ndarray:
    """int64 [benchmarks]: how many samples a way finds in each."""
    pairs = np.unique(np.stack([way.hits.sample, items.benchmark[way.hits.item]], axis=1), axis=0)
    return np.bincount(pairs[:, 1], minlength=len(items.names))


def _unable(config: DecontaminateConfig, items: Items, leaks: Leaks) -> dict[str, np.ndarray]:
    """The items (bool) that can't be found, by the reason."""
    nothing = np.zeros(items.count, bool)
    found = {"no_question": nothing, "too_short": nothing, "too_common": nothing}
    if leaks.common is None:
        return found
    asks = _having(items, np.ones(len(items.questions.sizes), bool))
    long = _having(items, items.questions.sizes >= config.least_shingles)
    alone = _having(items, (items.questions.sizes >= config.least_shingles) & ~leaks.common)
    told = nothing.copy()
    told[items.with_question_and_answer(bare=False).items] = True
    found["too_short"] = asks & ~long & ~told
    found["too_common"] = long & ~alone & ~told
    if config.by == "both":
        found["no_question"] = ~asks
    return found


def _having(items: Items, questions: np.ndarray) -> np.ndarray:
    """bool [items]: those that ask one of some questions (bool [Q])."""
    mask = np.zeros(items.count, bool)
    mask[items.asks.item[questions[items.asks.number]]] = True
    return mask
