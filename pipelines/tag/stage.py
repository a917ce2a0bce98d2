"""`imm tag`: give each picture tags with scores, once, and say which of them count.

Tags come from an embedder over a vocabulary, from a vision-language model, or with the data. Every sample
is kept: what has no tags says why in its sidecar. Time and memory are those of the way chosen
(`by_embedder`, `by_engine`, `arrived`); counting is one pass over the sidecars, a media shard at a time.
"""

from collections import Counter
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from infinity_mm.engines.base import open_engine
from infinity_mm.executor import Report
from infinity_mm.ledger import Ledger
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.models.embedder import EMBEDDERS
from infinity_mm.sidecars import Family, sidecar_entry
from infinity_mm.store import Store
from pipelines.config import LookingConfig
from pipelines.frames import COLUMNS
from pipelines.prompting import Template
from pipelines.selection import Verdict, select
from pipelines.tag.arrived import ARRIVED_TAGS, tag_as_arrived
from pipelines.tag.by_embedder import BY_EMBEDDER, KEPT, tag_by_embedder
from pipelines.tag.by_engine import BY_ENGINE, tag_by_engine
from pipelines.tag.kept import STAGE, Tags, Untagged
from pipelines.tag.vocabulary import Vocabulary
from pipelines.values import Values

ARRIVED, ENGINE = "arrived", "engine:"
FREQUENT = 20  # tags told of
LOOKED_UP = 4096  # media whose tags are counted at once


class TagConfig(LookingConfig):
    """Give pictures tags with scores."""

    manifest: str = Field(
        description="Manifest to tag: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    out: str = Field(description="NAME of the manifest made.")
    with_: str = Field(
        alias="with",
        description="What tags: an embedder with texts (open_clip:MODEL/PRETRAINED, hf:ID_OR_FOLDER, "
        "or tiny, which knows the toy data of `imm scenes`), engine:SPEC for a model that writes them, "
        "or arrived for tags that came with the data.",
    )
    vocabulary: str = Field(
        "general", description="Text file of tags, one a line, or one that ships: general, scenes."
    )
    threshold: float | None = Field(
        None, description="Least score of a tag that counts: a cosine, a probability, or what arrived."
    )
    top: int = Field(10, ge=1, le=KEPT, description="Most tags of a picture that count.")
    lang: Literal["en", "zh"] = Field("en", description="Language in which an engine is asked.")
    prompts: list[str] = Field(
        [], description="Folder of your own prompt templates, such as tags.en.txt (repeatable)."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        by_engine, given = self.with_.startswith(ENGINE), self.model_fields_set
        if not by_engine and self.with_ != ARRIVED and self.with_.partition(":")[0] not in EMBEDDERS:
            raise ValueError(
                f"--with {self.with_!r}: give open_clip:MODEL/PRETRAINED, hf:ID_OR_FOLDER or tiny, "
                "engine:SPEC, or arrived"
            )
        if self.with_ == ARRIVED and "vocabulary" in given:
            raise ValueError("--vocabulary has no use with tags that arrived: they are taken as they are")
        for name in ("lang", "prompts"):
            if not by_engine and name in given:
                raise ValueError(f"--{name} is for engines: give --with engine:SPEC, or leave it out")
        return self


def run(config: TagConfig, report: Report | None = None) -> dict[str, Any]:
    """Tag a manifest; the manifest made, and which tags are frequent. Raises ValueError and EngineError."""
    store = Store.open(config.store)
    name_is_free(store, config.out, config.replace, STAGE, config.recorded())
    with store.using(), Ledger(store) as ledger:
        manifest = Manifest.open(store, config.manifest)
        family, files, about = _tagged(store, manifest, config, report)

        def decide(number: int, at: np.ndarray, table: Any) -> Verdict:
            return Verdict(np.ones(len(at), bool), [])

        shards = select(manifest, ledger, decide, COLUMNS)
        kept = sum(len(shard.selected.rows) for shard in shards)
        reasons = dict(sorted(ledger.reasons.items()))
        made = publish(
            store,
            stage=STAGE,
            config=config.recorded(),
            shards=shards,
            media=manifest.document["media"],
            ledger=ledger.close(kept),
            counts=dict(ledger.counts),
            parents=[manifest],
            sources=manifest.document["sources"],
            origins=manifest.document["origins"],
            sidecars=[sidecar_entry(store, file, family.name, shard) for shard, file in files.items()],
            name=config.out,
            replace=config.replace,
            extra={"tags": about},
        )
        counted = count(made)
    note = "no picture has a tag" if counted["media"] and not counted["tagged"] else ""
    told = {"stage": STAGE, "reasons": reasons, "name": config.out, **counted, "note": note}
    return {**told, **made.reference()}


def _tagged(
    store: Store, manifest: Manifest, config: TagConfig, report: Report | None
) -> tuple[Family, dict[str, str], dict[str, Any]]:
    """The family of the tags, their sidecars by media shard, and how they were made."""
    if config.with_ == ARRIVED:
        files = tag_as_arrived(store, manifest, workers=config.workers, report=report)
        return ARRIVED_TAGS, files, {"family": ARRIVED_TAGS.name}
    vocabulary = Vocabulary.load(config.vocabulary)
    about: dict[str, Any] = {"vocabulary": vocabulary.digest}
    if not config.with_.startswith(ENGINE):
        files = tag_by_embedder(
            store, manifest, config.with_, vocabulary,
            workers=config.workers, max_pixels=config.max_pixels, report=report,
        )  # fmt: skip
        return BY_EMBEDDER, files, {"family": BY_EMBEDDER.name, **about}
    template = Template.load("tags", config.lang, config.prompts).needs("limit")
    engine = open_engine(config.with_.removeprefix(ENGINE))
    try:
        files = tag_by_engine(store, manifest, engine, template, vocabulary, report=report)
        about |= {"prompt": template.digest, "engine": engine.identity._asdict()}
    finally:
        engine.close()
    return BY_ENGINE, files, {"family": BY_ENGINE.name, **about}


def count(manifest: Manifest) -> dict[str, Any]:
    """Of a tagged manifest's media, each once: how many have tags, and of each tag how many have it."""
    tags, found, states, failures = Tags(manifest), Counter[str](), Counter[str](), Counter[str]()
    library = manifest.library()
    for digest, rows in Values(manifest, {}).used.items():
        shard = library.shard(digest)
        for start in range(0, len(rows), LOOKED_UP):
            for one in tags.of([shard.media_id(int(row)) for row in rows[start : start + LOOKED_UP]]):
                if isinstance(one, Untagged):
                    states["failed"] += 1
                    failures[one.reason] += 1
                elif one is None:
                    states["not_applicable"] += 1
                else:
                    states["tagged" if one else "below"] += 1
                    found.update({tagged.tag for tagged in one})
    frequent = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return {
        "media": sum(states.values()),
        "tagged": states["tagged"],
        "without": states["below"],
        "media_not_applicable": states["not_applicable"],
        "media_failed": states["failed"],
        "failures": dict(sorted(failures.items())),
        "distinct": len(frequent),
        "tags": dict(frequent[:FREQUENT]),
    }
