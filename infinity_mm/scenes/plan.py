"""What each record will be, before anything is drawn: its medium, kind, language, and planted defect if any.

The plan of record i depends on (seed, i) and, where defects are planted, on the plans before it: defects
come in shuffled rounds of all kinds, so that each is planted as often as any other; copies choose a clean
earlier record that nothing else copies. It does not change when more records are asked for. Where few records
are clean (from defects of 0.7 on), copies become rarer than the rest. Plans take about 200 bytes a record.
"""

from dataclasses import dataclass, replace

from .config import ScenesConfig
from .conversations import JUDGING
from .defects import COPY_DEFECTS, DEFECTS, NEEDS_MEDIUM, NEEDS_PICTURE
from .randomness import PLAN, PLANT, ROUND, SUIT, chance, pick_weighted, shuffled, stream

VIDEO_KINDS = {"motion": 0.75, "caption": 0.25}
# A mirrored picture keeps its conversation true only where no side is mentioned and nothing is read.
MIRROR_SAFE = ("colour", "shape", "size", "count", "exists")
TRIES = 64  # draws of an earlier record to copy


@dataclass(frozen=True, slots=True)
class Plan:
    """One record to make; `original` is the index of the record a copy is made of."""

    index: int
    medium: str
    kind: str
    language: str
    defect: str | None = None
    original: int | None = None


def _clean(config: ScenesConfig, index: int) -> Plan:
    """The record as it is without defects."""
    rng = stream(config.seed, index, PLAN)
    language = "zh" if chance(rng, config.chinese_share) else "en"
    point = float(rng.random())
    if point < config.text_only_share:
        return Plan(index, "text", "text_only", language)
    if point < config.text_only_share + config.multi_image_share:
        return Plan(index, "images", "compare", language)
    video = point < config.text_only_share + config.multi_image_share + config.video_share
    kind = pick_weighted(rng, VIDEO_KINDS if video else config.image_kinds())
    if kind not in JUDGING and chance(rng, config.multi_turn_share):
        kind = "conversation"
    return Plan(index, "video" if video else "image", kind, language)


def _as_picture(config: ScenesConfig, plan: Plan, kind: str | None = None) -> Plan:
    """The plan as a one-picture record, for defects that need one."""
    if plan.medium == "image" and kind is None:
        return plan
    rng = stream(config.seed, plan.index, SUIT)
    return replace(plan, medium="image", kind=kind or pick_weighted(rng, config.image_kinds()))


def _original(config: ScenesConfig, plans: list[Plan], copied: set[int], defect: str) -> int | None:
    """A clean earlier record to copy, or None if some draws find none."""
    rng = stream(config.seed, len(plans), SUIT)
    for _ in range(min(TRIES, 4 * len(plans))):
        earlier = plans[int(rng.integers(len(plans)))]
        suits = defect != "flipped" or earlier.kind in MIRROR_SAFE
        if suits and earlier.medium == "image" and earlier.defect is None and earlier.index not in copied:
            return earlier.index
    return None


def _first_possible(
    config: ScenesConfig, plans: list[Plan], copied: set[int], waiting: list[str]
) -> tuple[str, int | None] | None:
    """The first waiting defect that can be planted now, with the record it copies; None if there is none."""
    for name in waiting:
        if name not in COPY_DEFECTS:
            return name, None
        original = _original(config, plans, copied, name)
        if original is not None:
            return name, original
    return None


def make_plans(config: ScenesConfig) -> list[Plan]:
    """The plans of all records, in order."""
    plans: list[Plan] = []
    waiting: list[str] = []
    copied: set[int] = set()
    rounds = 0
    for index in range(config.count):
        plan = _clean(config, index)
        if chance(stream(config.seed, index, PLANT), config.defects):
            while (chosen := _first_possible(config, plans, copied, waiting)) is None:
                fresh = shuffled(stream(config.seed, rounds, ROUND), DEFECTS)
                waiting += [name for name in fresh if name not in waiting]
                rounds += 1
            name, original = chosen
            waiting.remove(name)
            copied |= {original} if original is not None else set()
            plan = _spoiled(config, plans, plan, name, original)
        plans.append(plan)
    return plans


def _spoiled(config: ScenesConfig, plans: list[Plan], plan: Plan, defect: str, original: int | None) -> Plan:
    """The plan with its defect, of the medium and kind that the defect needs."""
    if original is not None:
        source = plans[original]
        return replace(source, index=plan.index, defect=defect, original=original)
    if defect == "false_caption":
        plan = _as_picture(config, plan, "caption")
    elif defect in NEEDS_PICTURE or (plan.medium == "text" and defect in NEEDS_MEDIUM):
        plan = _as_picture(config, plan)
    return replace(plan, defect=defect)
