"""The samples of duplicates that a report shows: each read once, with its pictures and its words.

Time: a pass over the ids of the manifests that hold them; memory: what is shown.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.manifest import Manifest, ManifestError
from infinity_mm.report.figures import figure
from infinity_mm.report.model import DuplicateGroup, Miss, Run, Twin, Utterance
from infinity_mm.report.words import compared, same_words
from infinity_mm.schema import Sample
from pipelines.report.looking import Pictures, find, first_words
from pipelines.report.stages import Step

MOST_MEDIA = 4  # of a sample
MOST_TURNS = 2  # of a sample
MOST_JOINED = 6  # turns of a sample made of several
MERGED = "merged"  # the reason of what was joined into a sample made
GONE = "withdrawn, or in a manifest that is gone"


class Group(NamedTuple):
    """A group to show: its kept sample, the places in the ledger of those dropped, how many there are."""

    kept: bytes
    places: np.ndarray
    size: int
    elsewhere: Sequence[tuple[str, int]] = ()


class Look:
    """The samples that are shown, each read once, as twins."""

    def __init__(
        self,
        step: Step,
        groups: Sequence[Group],
        misses: Iterable[tuple[bytes, bytes, float]],
        later: Mapping[bytes, str],
        notes: list[str],
    ) -> None:
        about = step.manifest.document["dedup"]
        self.later = later
        self.units = {m["name"]: m["unit"] for m in about["methods"]}
        self.meanings = {m["name"]: m["meaning"] for m in about["methods"]}
        places = np.unique(np.concatenate([np.empty(0, np.int64), *(group.places for group in groups)]))
        self.lines = dict(zip(places.tolist(), step.lines(places), strict=True))
        kept = {group.kept for group in groups} | {one for a, b, _ in misses for one in (a, b)}
        self.made = {line["child"] for line in self.lines.values()} - {None}
        self.against: dict[bytes, str] = {}
        self.kept = _seen(step.manifest, kept)
        for name, file in zip(about.get("against", ()), about.get("against_files", ()), strict=True):
            try:
                found = _seen(Manifest.open(step.manifest.store, file), kept - self.kept.keys())
            except ManifestError:
                notes.append(f"{step.title}: {name} is gone: what it has of the duplicates is not shown")
                continue
            self.kept |= found
            self.against |= dict.fromkeys(found, name)
        if step.parent is None:
            notes.append(f"{step.title}: what it read is gone: what it dropped is not shown")
        ids = {line["sample_id"] for line in self.lines.values()}
        self.dropped = _seen(step.parent, ids) if step.parent else {}

    def group(self, group: Group) -> DuplicateGroup:
        kept = self.kept.get(group.kept)
        return DuplicateGroup(
            kept=self._kept(group.kept, kept),
            dropped=[self._dropped(self.lines[place], kept) for place in group.places.tolist()],
            size=group.size,
            made=group.kept in self.made,
            against=self.against.get(group.kept),
            elsewhere=group.elsewhere,
        )

    def miss(self, a: bytes, b: bytes, distance: float) -> Miss:
        first, second = (self.kept.get(one) for one in (a, b))
        return Miss(a=self._twin(a, first, None), b=self._twin(b, second, first), distance=distance)

    def _kept(self, identity: bytes, seen: "_Seen | None") -> Twin:
        twin = self._twin(identity, seen, None, later=self.later.get(identity, ""))
        if identity not in self.made or seen is None:
            return twin
        turns = list(_talk(seen.sample).items())[:MOST_JOINED]
        return replace(twin, said=[Utterance(role=role, runs=[Run(text=text)]) for (role, _), text in turns])

    def _dropped(self, line: Mapping[str, Any], kept: "_Seen | None") -> Twin:
        joined = line["reason"] == MERGED
        meaning = self.meanings.get(line["reason"], "")
        detail = (line["detail"] or "").removeprefix(meaning).removeprefix("; ")
        return self._twin(
            line["sample_id"],
            self.dropped.get(line["sample_id"]),
            None if joined else kept,
            source=line["source"],
            origin=line["origin"],
            method=line["reason"],
            distance=_short(line["value"]),
            unit=self.units.get(line["reason"], ""),
            others=line["others"] or (),
            detail="" if joined else detail,
        )

    def _twin(self, identity: bytes, seen: "_Seen | None", beside: "_Seen | None", **more: Any) -> Twin:
        """A sample; what it says is compared with `beside`, where that is there."""
        if seen is None:
            return Twin(sample_id=identity.hex(), gone=GONE, **more)
        sample = seen.sample
        more |= {"source": sample.source, "origin": sample.origin}
        said, same = _said(sample, beside.sample if beside else None)
        media = zip(sample.media[:MOST_MEDIA], sample.names, strict=False)
        return Twin(
            sample_id=identity.hex(),
            media=[seen.pictures.medium(medium, name) for medium, name in media],
            more_media=max(0, len(sample.media) - MOST_MEDIA),
            said=said,
            same_words=same,
            **more,
        )


def _short(value: str | None) -> str | None:
    """A distance to four digits, as it stands where it is no number."""
    try:
        return value if value is None else figure(float(value))
    except ValueError:
        return value


class _Seen(NamedTuple):
    """A sample, and where its pictures are."""

    sample: Sample
    pictures: Pictures


def _seen(manifest: Manifest, wanted: set[bytes]) -> dict[bytes, _Seen]:
    if not wanted:
        return {}
    pictures = Pictures(manifest.library())
    return {identity: _Seen(sample, pictures) for identity, sample in find(manifest, wanted).items()}


def _said(sample: Sample, beside: Sample | None) -> tuple[list[Utterance], bool]:
    """The first words of a sample; or where they differ from another's, and whether they differ nowhere."""
    if beside is None:
        words = [(role, first_words(sample, role)) for role in ("user", "assistant")]
        return [Utterance(role=role, runs=[Run(text=text)]) for role, text in words if text], False
    one, other = _talk(sample), _talk(beside)
    differing = [turn for turn in {**one, **other} if not same_words(one.get(turn, ""), other.get(turn, ""))]
    said = [
        Utterance(role=turn[0], runs=compared(one.get(turn, ""), other.get(turn, "")))
        for turn in differing[:MOST_TURNS]
    ]
    return said, not differing and one.keys() == other.keys() and any(one.values())


def _talk(sample: Sample) -> dict[tuple[str, int], str]:
    """The text of each turn by its role and its number among the turns of that role; rejected ones last."""
    found: dict[tuple[str, int], str] = {}
    numbers: Counter[str] = Counter()
    for prefix, turns in (("", sample.turns), ("rejected ", sample.rejected or ())):
        for turn in turns:
            role = prefix + turn.role
            found[role, numbers[role]] = " ".join(p.text for p in turn.parts if p.text).strip()
            numbers[role] += 1
    return found
