"""What `imm dedup` found as a report tells it: groups around their kept samples, near misses, distances, and
what later stages did with the samples that were kept for others.

Time: one pass over five columns of the ledger, one over two of each later stage's, and one over the ids
of the manifests that hold what is shown; samples are read and pictures decoded for what is shown alone.
Memory: some 200 bytes a row of the ledger.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import among, id_array, id_rows, one_chunk
from infinity_mm.order import mix
from infinity_mm.report.distributions import Distances, Histogram, Measured
from infinity_mm.report.model import DuplicateMethod, Duplicates
from infinity_mm.schema import ID
from infinity_mm.spill import halves
from infinity_mm.store import read_table
from infinity_mm.trace import made_from
from pipelines.report.counting import edges_of, histogram
from pipelines.report.looking import chosen
from pipelines.report.stages import Step
from pipelines.report.twins import MERGED, Group, Look

MOST_GROUPS = 12  # of a method
MOST_LARGEST = 4
MOST_DROPPED = 5  # of a group
MOST_MISSES = 8  # of a method
LEDGER_READ = ["outcome", "reason", "value", "witness", "child"]
LATER_READ = ["sample_id", "reason"]


class _Dropped:
    """The rows of a ledger that name what stands for them: the made sample they were joined into, or the kept
    one. `groups` has a row for each reason and sample that stands for others, with how many they are."""

    def __init__(self, step: Step, methods: Sequence[Mapping[str, Any]]) -> None:
        file = step.manifest.document["ledger"]["file"]
        table = read_table(step.manifest.store, file, LEDGER_READ)
        kept = pc.coalesce(table.column("child"), table.column("witness"))
        named = pc.and_(pc.equal(table.column("outcome"), "dropped"), pc.is_valid(kept))
        self.places = np.flatnonzero(np.asarray(named))
        table = table.append_column("kept", kept).filter(named)
        self.kept = one_chunk(table.column("kept"))
        self.names = [*(m["name"] for m in methods), MERGED]
        self.methods = np.asarray(pc.index_in(table.column("reason"), pa.array(self.names)))
        values = pl.Series("value", one_chunk(table.column("value"))).cast(pl.Float64, strict=False)
        high = np.array([*(m["near_is"] == "high" for m in methods), False])
        self.far = values.fill_null(np.inf).to_numpy() * np.where(high, -1, 1)[self.methods]
        self.groups = table.group_by(["reason", "kept"], use_threads=False).aggregate([([], "count_all")])

    def sizes(self, joined: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The ids (N×16 uint8) of what stands for others, and for how many; `joined`: joined ones too."""
        groups = self.groups
        if not joined:
            groups = groups.filter(pc.not_equal(groups.column("reason"), MERGED))
        whole = groups.group_by("kept", use_threads=False).aggregate([("count_all", "sum")])
        return id_rows(whole.column("kept")), whole.column("count_all_sum").to_numpy()

    def of(self, method: str) -> np.ndarray:
        """The ids (N×16 uint8) of what stands for what one method dropped."""
        return id_rows(self.groups.filter(pc.equal(self.groups.column("reason"), method)).column("kept"))

    def shown(self, kept: Sequence[bytes], method: str | None = None) -> list[Group]:
        """Groups around kept samples, of one method or of all: members from the nearest to the farthest."""
        group = np.asarray(pc.fill_null(pc.index_in(self.kept, pa.array(kept, ID)), -1))
        found = []
        for number, identity in enumerate(kept):
            rows = np.flatnonzero(group == number)
            by = self.methods[rows]
            own = by == self.names.index(method) if method else by != self.names.index(MERGED)
            members = rows[own][np.lexsort((self.far[rows[own]], by[own]))]
            counts = np.bincount(by[~own], minlength=len(self.names)).tolist()
            found.append(
                Group(
                    kept=identity,
                    places=self.places[members[spread(len(members), MOST_DROPPED)]],
                    size=len(members),
                    elsewhere=[(name, n) for name, n in zip(self.names, counts, strict=True) if n],
                )
            )
        return found


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the places 0 to count - 1: all, or the first, the last, and some between."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def duplicates(step: Step, way: Sequence[Step], notes: list[str]) -> Duplicates:
    """What a stage of dedup found; `way`: all stages of the report. `notes` gets what could not be told."""
    about = step.manifest.document["dedup"]
    methods: list[dict[str, Any]] = about["methods"]
    dropped = _Dropped(step, methods)
    ids, sizes = dropped.sizes()
    largest = _largest(ids, sizes)
    groups = {m["name"]: _chosen(dropped, m["name"], largest) for m in methods}
    whole = dropped.shown(largest)
    joined = _chosen(dropped, MERGED, ())
    misses = {m["name"]: _nearest(m) for m in methods}
    wanted = [*whole, *joined, *chain.from_iterable(groups.values())]
    lost, later = _later(step, way, *dropped.sizes(joined=True))
    look = Look(step, wanted, chain.from_iterable(misses.values()), later, notes)
    return Duplicates(
        stage=step.title,
        groups=len(ids),
        dropped=int(sizes.sum()),
        merged=about.get("merged", 0),
        keep=about.get("keep", []),
        against=about.get("against", []),
        sizes=_sizes(sizes),
        methods=[
            DuplicateMethod(
                name=m["name"],
                meaning=m["meaning"],
                unit=m["unit"],
                threshold=m["threshold"],
                near_is_high=m["near_is"] == "high",
                dropped=m["dropped"],
                alone=m["alone"],
                pairs=m["pairs"],
                groups=len(dropped.of(m["name"])),
                recall=m.get("recall") or "",
                distances=_distances(m),
                examples=[look.group(group) for group in groups[m["name"]]],
                misses=[look.miss(*miss) for miss in misses[m["name"]]],
            )
            for m in methods
        ],
        largest=[look.group(group) for group in whole],
        joined=[look.group(group) for group in joined],
        lost=lost,
    )


def _largest(ids: np.ndarray, sizes: np.ndarray) -> list[bytes]:
    """The kept samples of the largest groups of three or more; none where there are few groups."""
    if len(ids) <= MOST_LARGEST:
        return []
    best = np.lexsort((mix(halves(ids)[0], 0), -sizes))[:MOST_LARGEST]
    return [ids[i].tobytes() for i in best if sizes[i] > 1]


def _chosen(dropped: _Dropped, method: str, largest: Sequence[bytes]) -> list[Group]:
    """Some groups of a method, chosen by their kept sample: the largest are shown elsewhere."""
    ids = dropped.of(method)
    others = ids[~among(ids, set(largest))] if largest else ids
    ids = others if len(others) else ids
    return dropped.shown([row.tobytes() for row in ids[chosen(ids, MOST_GROUPS)]], method)


def _nearest(method: Mapping[str, Any]) -> list[tuple[bytes, bytes, float]]:
    pairs = [(bytes.fromhex(m["a"]), bytes.fromhex(m["b"]), m["distance"]) for m in method["misses"]]
    pairs.sort(key=lambda pair: pair[2], reverse=method["near_is"] == "high")
    return pairs[:MOST_MISSES]


def _distances(method: Mapping[str, Any]) -> Distances | None:
    found = method["histogram"]
    if len(found["counts"]) < 2 or not any([*found["counts"], *found["beyond"]]):
        return None  # nothing to see, as of exact duplicates
    return Distances(
        unit=method["unit"],
        edges=found["edges"],
        counts=found["counts"],
        beyond=found["beyond"],
        threshold=method["threshold"],
    )


def _sizes(sizes: np.ndarray) -> Histogram | None:
    if not len(sizes):
        return None
    about = Measured(name="size", n=len(sizes), of="groups", unit="samples", meaning="the kept one counted")
    edges, log = edges_of([sizes + 1], whole=True, tail=0)
    return histogram(about, sizes + 1, edges, log)


def _later(
    step: Step, way: Sequence[Step], ids: np.ndarray, sizes: np.ndarray
) -> tuple[list[tuple[str, int]], dict[bytes, str]]:
    """How many dropped samples have lost what was kept for them, by later stage and reason; and of each kept
    sample that is not in the reported manifest any more, what dropped it."""
    after = {m.file for m in made_from([s.manifest for s in way], step.manifest.file)}
    kept = id_array(ids)
    gone: dict[int, str] = {}
    for one in way:
        if one.manifest.file not in after or not one.has_ledger():
            continue
        table = read_table(one.manifest.store, one.manifest.document["ledger"]["file"], LATER_READ)
        places = pc.index_in(table.column("sample_id"), kept)
        rows = table.append_column("place", places).filter(pc.is_valid(places))
        for place, reason in zip(rows["place"].to_pylist(), rows["reason"].to_pylist(), strict=True):
            gone.setdefault(place, f"{one.title}: {reason}")
    if not gone:
        return [], {}
    end = way[-1].manifest
    left = pa.concat_arrays([id_array(end.ids(n)) for n in range(len(end.shards))] or [kept[:0]])
    there = pc.is_in(kept, left).to_numpy(zero_copy_only=False)
    counts: Counter[str] = Counter()
    for place, by in gone.items():
        if not there[place]:
            counts[by] += int(sizes[place])
    lost = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return lost, {ids[place].tobytes(): by for place, by in gone.items() if not there[place]}
