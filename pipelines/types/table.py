"""The table that joins tags and types: which types of question suit a picture with these tags, by TF-IDF.

Each type is a document and the tags of the pictures that its seed questions are about are its terms
(Infinity-MM, arXiv 2410.18558, section 3.2.2). What the paper leaves unsaid is decided here, for T types,
tags g, and n(t, g) seed questions of type t whose picture has g, of N(t) in all:

- Term frequency is the share of a type's pictures that have the tag, drawn towards the share in all
  pictures as by PRIOR more of them: tf(t, g) = (n(t, g) + PRIOR p(g)) / (N(t) + PRIOR), so that a type with
  three seeds does not look certain, and is tried on pictures of all kinds. Tags of fewer than `support`
  seeds are left out, and types without seeds.
- Document frequency is soft: df(g) = sum over t of tf(t, g) / max over t of tf(t, g), from 1 for a tag of
  one type to T for a tag that all types have alike. Counting types that have the tag at all would end at T
  for every tag, once the seeds are many. idf(g) = ln((1 + T) / (1 + df(g))).
- The weight of a tag in a type is tf idf, a type's row scaled to length 1.
- A picture fits a type as the cosine of the type's row and the picture's tags, each 1 or, with `by_score`,
  its score as a share of the picture's best: 0 to 1.

Time and memory: T times the distinct tags, whatever the number of seeds.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.report.tables import Section
from infinity_mm.report.types import types_section
from pipelines.tag.kept import Tagged
from pipelines.types.taxonomy import Taxonomy

FORMAT, VERSION = "imm-types", 1
PRIOR = 10
SUPPORT = 5
COLUMNS = ("type", "tag", "seeds", "share", "weight")


class Fit(NamedTuple):
    """How well a type suits a picture, 0 to 1."""

    type: str
    fit: float


class Row(NamedTuple):
    """A type as it is told of: its seed questions, and its best tags with their weights."""

    type: str
    seeds: int
    tags: tuple[tuple[str, float], ...]


class Seeds:
    """Counting of seed questions, from which a table is made."""

    def __init__(self, taxonomy: Taxonomy, by_score: bool = False) -> None:
        self.taxonomy, self.by_score = taxonomy, by_score
        self.seeds: defaultdict[str, int] = defaultdict(int)
        self.counts: defaultdict[tuple[str, str], float] = defaultdict(float)

    def add(self, type: str, tags: Sequence[Tagged]) -> None:
        """One question of a type (its id, name or an alias) about a picture with these tags; a picture
        without tags is passed over. Raises ValueError for a type that the taxonomy does not have."""
        known = self.taxonomy.get(type).id
        if tags:
            self.seeds[known] += 1
            for tag, weight in weighted(tags, self.by_score).items():
                self.counts[known, tag] += weight

    def table(self, support: int = SUPPORT) -> "Table":
        """Raises ValueError where no question's picture has a tag of enough seeds."""
        total: defaultdict[str, float] = defaultdict(float)
        for (_, tag), n in sorted(self.counts.items()):
            total[tag] += n
        counts = {pair: n for pair, n in self.counts.items() if total[pair[1]] >= support}
        if not counts:
            raise ValueError(
                f"no tag comes with {support} seed questions or more: give more seeds, or a lower support"
            )
        seeds = {id: self.seeds[id] for id in self.taxonomy.types if id in self.seeds}
        return Table(self.taxonomy.name, self.taxonomy.digest, seeds, counts, self.by_score, support)


class Table:
    """Types by tags: see the module. `seeds`: questions of each type, in the taxonomy's order; `counts`: of
    each (type, tag)."""

    def __init__(
        self,
        taxonomy: str,
        taxonomy_digest: str,
        seeds: dict[str, int],
        counts: dict[tuple[str, str], float],
        by_score: bool,
        support: int,
    ) -> None:
        self.taxonomy, self.taxonomy_digest = taxonomy, taxonomy_digest
        self.seeds, self.counts, self.by_score, self.support = seeds, counts, by_score, support
        self.types = list(seeds)
        self.tags = sorted({tag for _, tag in counts})

    @cached_property
    def shares(self) -> np.ndarray:
        """tf, float64 [types, tags]."""
        n = np.zeros((len(self.types), len(self.tags)))
        of_type = {type: i for i, type in enumerate(self.types)}
        for (type, tag), count in self.counts.items():
            n[of_type[type], self._place[tag]] = count
        seeds = np.array(list(self.seeds.values()), float)[:, None]
        overall = n.sum(axis=0) / seeds.sum()
        shares: np.ndarray = (n + PRIOR * overall) / (seeds + PRIOR)
        return shares

    @cached_property
    def weights(self) -> np.ndarray:
        """tf idf, float64 [types, tags]; rows of length 1, or 0 where all types have every tag alike."""
        soft = self.shares.sum(axis=0) / self.shares.max(axis=0)
        idf = np.log((1 + len(self.types)) / (1 + soft))
        products = self.shares * np.maximum(idf, 0)
        length = np.sqrt(np.square(products).sum(axis=1, keepdims=True))
        weights: np.ndarray = np.divide(products, length, out=np.zeros_like(products), where=length > 1e-9)
        return weights

    @cached_property
    def _place(self) -> dict[str, int]:
        return {tag: i for i, tag in enumerate(self.tags)}

    def fit(self, tags: Sequence[Tagged]) -> list[Fit]:
        """Every type of the table, the best-fitting first, of equals the first in the taxonomy. Tags that no
        seed had count as tags that suit no type."""
        own = weighted(tags, self.by_score)
        length = math.sqrt(sum(weight * weight for weight in own.values()))
        known = {self._place[tag]: weight for tag, weight in own.items() if tag in self._place}
        if not known or not length:
            return [Fit(type, 0.0) for type in self.types]
        fits = self.weights[:, list(known)] @ np.array(list(known.values())) / length
        # Rounded, so that a last bit that another machine sums otherwise does not turn an order.
        told = [Fit(type, float(fit)) for type, fit in zip(self.types, np.round(fits, 9), strict=True)]
        return sorted(told, key=lambda one: -one.fit)

    def rows(self, best: int = 8) -> list[Row]:
        """What a report tells of each type: its seeds and its `best` tags, those of most weight first."""
        told = []
        for i, (type, seeds) in enumerate(self.seeds.items()):
            order = np.argsort(-self.weights[i], kind="stable")[:best]
            tags = tuple((self.tags[g], float(self.weights[i, g])) for g in order if self.weights[i, g] > 0)
            told.append(Row(type, seeds, tags))
        return told

    def told(self, taxonomy: Taxonomy, drawn: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
        """The rows as a report has them, with group and name; `drawn`: how often each type was drawn."""
        told = []
        for row in self.rows():
            one = taxonomy.get(row.type)
            group = taxonomy.group_of[one.id].name.en
            count = None if drawn is None else drawn.get(row.type, 0)
            told.append(
                {"group": group, "name": one.name.en, "seeds": row.seeds, "drawn": count, "tags": row.tags}
            )
        return told

    def section(self, taxonomy: Taxonomy, drawn: Mapping[str, int] | None = None) -> Section:
        """The table as a section of a report."""
        return types_section(self.told(taxonomy, drawn))

    def write(self, path: Path) -> None:
        """As text: a line of JSON after `# `, a line of column names, and a line for each type and tag with
        seeds, tab-separated, a type's best tags first. The same table is the same bytes."""
        path.write_text(self.text(), encoding="utf-8", newline="\n")

    def text(self) -> str:
        """What `write` writes."""
        head = {
            "format": FORMAT,
            "version": VERSION,
            "taxonomy": self.taxonomy,
            "taxonomy_digest": self.taxonomy_digest,
            "support": self.support,
            "by_score": self.by_score,
            "seeds": self.seeds,
        }
        lines = [f"# {json.dumps(head)}", "\t".join(COLUMNS)]
        for i, type in enumerate(self.types):
            rows = sorted((-round(self.weights[i, g], 6), tag) for tag, g in self._place.items())
            for negative, tag in rows:
                if count := self.counts.get((type, tag)):
                    share = self.shares[i, self._place[tag]]
                    told = (type, _escaped(tag), repr(round(count, 6)), f"{share:.6f}", f"{-negative:.6f}")
                    lines.append("\t".join(told))
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Table":
        """A table that was written; shares and weights are worked out again. Raises ValueError."""
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            head = json.loads(lines[0].removeprefix("# "))
            if head["format"] != FORMAT or head["version"] > VERSION:
                raise ValueError(f"it is {head['format']} version {head['version']}")
            counts = {}
            for line in lines[2:]:
                if line:
                    type, tag, count, _, _ = line.split("\t")
                    counts[type, _unescaped(tag)] = float(count)
            known = {type for type, _ in counts} <= head["seeds"].keys() and bool(counts)
            if not known:
                raise ValueError("its lines and its first line do not fit")
        except FileNotFoundError:
            raise ValueError(f"no table of types {path}: make one from seed questions") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no table of types of version {VERSION}: {error}; make it again"
            ) from None
        return cls(
            head["taxonomy"],
            head["taxonomy_digest"],
            head["seeds"],
            counts,
            head["by_score"],
            head["support"],
        )


def weighted(tags: Iterable[Tagged], by_score: bool) -> dict[str, float]:
    """The weight of each tag of a picture: 1, or its score as a share of the best one, at least 0. A tag
    without a score weighs as much as the best."""
    given = {one.tag: one.score for one in tags}
    best = max((score for score in given.values() if score is not None), default=0.0)
    if not by_score or best <= 0:
        return dict.fromkeys(given, 1.0)
    return {tag: 1.0 if score is None else max(score, 0.0) / best for tag, score in given.items()}


def _escaped(tag: str) -> str:
    """A tag on one line of tab-separated text: as JSON writes it, without the quotes."""
    return json.dumps(tag, ensure_ascii=False)[1:-1].replace("\x85", "\\u0085")


def _unescaped(text: str) -> str:
    tag: Any = json.loads(f'"{text}"')
    return str(tag)
