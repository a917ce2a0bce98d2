"""Samples made of a few words, as measures look at them."""

import json
from collections.abc import Sequence
from typing import Any

from infinity_mm.schema import Part, Sample, Turn
from infinity_mm.sidecars import Family
from pipelines.measures.sample_look import SampleLook

PICTURE, CLIP = Part("image", None, 0), Part("video", None, 0)
Said = tuple[str, str | Part | Sequence[str | Part]]


def turns(said: Sequence[Said]) -> tuple[Turn, ...]:
    """("user", "Hello") or ("user", [PICTURE, "Hello"]) for a turn."""
    return tuple(
        Turn(role, tuple(Part("text", p) if isinstance(p, str) else p for p in _listed(what)))
        for role, what in said
    )


def _listed(what: str | Part | Sequence[str | Part]) -> Sequence[str | Part]:
    return [what] if isinstance(what, str | Part) else what


def look(*said: Said, meta: Any = None, rejected: Sequence[Said] | None = None) -> SampleLook:
    text = "{}" if meta is None else json.dumps(meta, ensure_ascii=False)
    other = None if rejected is None else turns(rejected)
    return SampleLook(Sample(b"\0" * 16, turns(said), (), "source", text, other, (), "here:1"))


def asked(question: str, answer: str, **more: Any) -> SampleLook:
    return look(("user", question), ("assistant", answer), **more)


def values(family: Family, of: SampleLook, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """The measures of a family by name."""
    return dict(zip(family.measures, family.open(settings or {})(of), strict=True))
