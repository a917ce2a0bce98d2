"""`imm types`: what kinds of question are asked about which pictures, as a table that one can read.

Seed questions are drawn from a manifest whose pictures have tags (`imm tag`), each is labelled with a type of
the taxonomy by a model, and types and tags are joined (Infinity-MM, section 3.2.2). Beside the table lie the
labelled questions, of which `imm synthesize` shows examples. Answers are stored as they come: the same
command again goes on, and asks nothing twice. Time is the model's; memory: the seeds.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from infinity_mm.engines.base import Engine, Failure, Picture, open_engine
from infinity_mm.executor import Report, Silent
from infinity_mm.manifest import Manifest
from infinity_mm.media.index import Unavailable
from infinity_mm.schema import Sample, samples_from
from infinity_mm.store import Store
from pipelines.config import StageConfig
from pipelines.synthesize.reading import language_of
from pipelines.synthesize.replies import Remembering, Replies, Spent
from pipelines.tag.kept import Tags
from pipelines.types.label import Labeller, Seed, seed_of
from pipelines.types.table import SUPPORT, Seeds
from pipelines.types.taxonomy import Taxonomy

PIECE = 256  # seeds that are labelled together
EXAMPLES = ".examples.jsonl"  # ending of the file beside a table


class TypesConfig(StageConfig):
    """Label seed questions by type, and join types and image tags in a table."""

    manifest: str = Field(
        description="Manifest with tags, whose questions are the seeds.",
        json_schema_extra={"positional": True},
    )
    out: Path = Field(description="File of the table; the labelled questions lie beside it.")
    engine: str = Field(
        "tiny", description="Model that labels: transformers:ID, vllm:ID, openai:MODEL@URL or tiny."
    )
    device: str | None = Field(None, description="cpu, cuda or cuda:N [default: a GPU where there is one].")
    types: str = Field("general", description="Taxonomy of questions: general, scenes, or a YAML file.")
    by: str | None = Field(
        None, description="Field of a sample's meta that names its type: no model is asked."
    )
    prompts: str | None = Field(None, description="Folder of prompts of your own.")
    limit: int = Field(20_000, ge=1, description="Seed questions at most.")
    support: int = Field(SUPPORT, ge=1, description="Seed questions that a tag must come with.")
    seed: int = Field(0, ge=0, description="Of which questions are drawn.")


class Labelled(NamedTuple):
    """A seed question of one picture and its type; the type is a Failure where there is none."""

    sample: Sample
    question: str
    lang: str
    type: str | Failure


def run(config: TypesConfig, report: Report | None = None) -> dict[str, Any]:
    """Label, count, write; what came of it. Raises ValueError, EngineError."""
    store = Store.open(config.store)
    if config.out.exists() and not config.replace:
        raise ValueError(f"{config.out} is there already: give --replace, or another --out")
    report = report or Silent()
    taxonomy = Taxonomy.load(config.types)
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        tags = Tags(manifest)
        spent = Spent()
        seeds, failed = Seeds(taxonomy), Counter[str]()
        examples: list[dict[str, Any]] = []
        report.start("types", min(config.limit, manifest.samples), "questions")
        for labelled in _labelled(store, manifest, config, taxonomy, spent):
            report.advance()
            if isinstance(labelled.type, Failure):
                failed[labelled.type.reason] += 1
                continue
            medium = labelled.sample.media[0]
            (told,) = tags.of([medium])
            if not isinstance(told, list):
                failed["no_tags"] += 1
                continue
            seeds.add(labelled.type, told)
            examples.append(
                {
                    "type": taxonomy.get(labelled.type).id,
                    "lang": labelled.lang,
                    "question": labelled.question,
                    "media_id": medium.hex(),
                    "sample_id": labelled.sample.sample_id.hex(),
                }
            )
        report.done()
    table = seeds.table(config.support)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    table.write(config.out)
    lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in examples]
    examples_of(config.out).write_text("".join(lines), encoding="utf-8")
    return {
        "stage": "types",
        "out": str(config.out),
        "seeds": len(examples),
        "failed": dict(sorted(failed.items())),
        "types": {row.type: {"seeds": row.seeds, "tags": dict(row.tags)} for row in table.rows()},
        "asked": spent.asked,
        "stored": spent.stored,
    }


def examples_of(table: Path) -> Path:
    """Where the labelled questions of a table lie."""
    return table.with_name(table.name + EXAMPLES)


def _labelled(
    store: Store, manifest: Manifest, config: TypesConfig, taxonomy: Taxonomy, spent: Spent
) -> Iterator[Labelled]:
    """Seed questions with their types, piece by piece."""
    if config.by is not None:
        for sample in _seeds(manifest, config):
            named = json.loads(sample.meta or "{}").get(config.by)
            known = taxonomy.find(str(named))
            question = seed_of(sample, ()).question
            type_ = known.id if known else Failure("unknown_type", f"{config.by} is {named!r}")
            yield Labelled(sample, question, language_of(question) or "en", type_)
        return
    engine = open_engine(config.engine, config.device)
    try:
        asked: Engine = Remembering(Replies(store, engine, spent))
        folders = [] if config.prompts is None else [config.prompts]
        labellers = {lang: Labeller(asked, taxonomy, lang, folders) for lang in ("en", "zh")}
        piece: list[Sample] = []
        for sample in _seeds(manifest, config):
            piece.append(sample)
            if len(piece) == PIECE:
                yield from _label(manifest, piece, labellers)
                piece = []
        yield from _label(manifest, piece, labellers)
    finally:
        engine.close()


def _label(
    manifest: Manifest, samples: Sequence[Sample], labellers: dict[str, Labeller]
) -> Iterator[Labelled]:
    library = manifest.library()
    found: dict[int, Labelled] = {}
    todo: dict[str, list[tuple[int, Seed]]] = {lang: [] for lang in labellers}
    for number, sample in enumerate(samples):
        lang = language_of(seed_of(sample, ()).question) or "en"
        try:
            picture = Picture(sample.media[0].hex(), library.read(sample.media[0]))
        except Unavailable as error:
            found[number] = Labelled(sample, "", lang, Failure(error.reason, str(error)))
            continue
        todo[lang].append((number, seed_of(sample, (picture,))))
    for lang, asked in todo.items():
        for (number, seed), label in zip(
            asked, labellers[lang].label([seed for _, seed in asked]), strict=True
        ):
            type_ = label if isinstance(label, Failure) else label.type
            found[number] = Labelled(samples[number], seed.question, lang, type_)
    yield from (found[number] for number in range(len(samples)))


def _seeds(manifest: Manifest, config: TypesConfig) -> Iterator[Sample]:
    """Samples of one picture with a question, in a seeded order, at most `limit`; none that is withdrawn."""
    count = 0
    withdrawn = manifest.withdrawn
    for shard, row in manifest.order(config.seed):
        table = manifest.table(shard).slice(row, 1)
        if withdrawn.rows(table)[0]:
            continue
        (sample,) = samples_from(table)
        if len(sample.media) == 1 and seed_of(sample, ()).question.strip():
            yield sample
            count += 1
            if count == config.limit:
                return
