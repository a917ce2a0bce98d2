"""How right the pairs written for the pictures of `imm scenes` are, before and after each check."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infinity_mm.manifest import Manifest
from infinity_mm.scenes.answers import read_value
from infinity_mm.scenes.asked import read_question, right_answer
from infinity_mm.schema import samples_from
from pipelines.synthesize.pairs import Pair
from pipelines.synthesize.steps import STEPS

Check = Callable[[Pair], bool]
ORDER = [*(step.name for step in STEPS), "alike"]


def scenes_of(manifest: Manifest, truth: Path) -> dict[bytes, Mapping[str, Any]]:
    """The scene of each picture, from the file that `imm scenes` writes beside its records."""
    told = {}
    for line in truth.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        told[record["id"]] = record["scenes"]
    found: dict[bytes, Mapping[str, Any]] = {}
    for number in range(len(manifest.shards)):
        for sample in samples_from(manifest.table(number)):
            scenes = told.get(json.loads(sample.meta or "{}").get("id"), [])
            if len(scenes) == len(sample.media):
                found.update(zip(sample.media, scenes, strict=True))
    return found


def is_right(pair: Pair, scene: Mapping[str, Any]) -> bool:
    """Whether a pair's question has one answer in its picture, and the answer is that."""
    lang = pair.image.lang
    asked = read_question(lang, pair.question)
    if asked is None:
        return False
    value = right_answer(scene, asked)
    return value is not None and read_value(lang, asked.kind, asked.about, pair.answer) == value


def passed(step: str) -> Check:
    """The check whether a pair came through a step of its run."""
    return lambda pair: pair.rejected is None or ORDER.index(pair.rejected.step) > ORDER.index(step)


def table(pairs: Sequence[Pair], right: Sequence[bool], checks: Mapping[str, Check]) -> list[str]:
    """Lines of what is left after each check, the checks one upon another: pairs, their precision, and the
    share of all right pairs that is lost."""
    total = sum(right)
    left = list(range(len(pairs)))
    lines = [f"{'after':<16}{'pairs':>7}{'right':>7}{'precision':>11}{'right ones lost':>17}"]
    for name, check in {"answer": lambda pair: True, **checks}.items():
        left = [i for i in left if check(pairs[i])]
        good = sum(right[i] for i in left)
        lost = 1 - good / total if total else 0.0
        lines.append(f"{name:<16}{len(left):>7}{good:>7}{good / max(1, len(left)):>11.3f}{lost:>17.3f}")
    return lines


def by_type(pairs: Sequence[Pair]) -> dict[str, list[int]]:
    """The places of pairs by their type, in order of its name."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        found[pair.kind.id].append(place)
    return dict(sorted(found.items()))
