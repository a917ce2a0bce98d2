"""What `imm synthesize` wrote and refused as a report tells it: from manifest, ledger and sidecars.

Time: one pass over two columns of the ledger and over the numbers of the `synthesis` sidecars; samples are
read and pictures decoded for what is shown alone. Memory: some 60 bytes a pair.
"""

import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from infinity_mm.columns import id_rows
from infinity_mm.manifest import Manifest
from infinity_mm.order import mix
from infinity_mm.report.distributions import Bar, Categories, Distribution, Limit, Measured
from infinity_mm.report.model import (
    Example,
    Refusal,
    Synthesis,
    SynthesisStep,
    SynthesisType,
    TypeRow,
    Written,
)
from infinity_mm.schema import Sample, Turn
from infinity_mm.spill import halves
from infinity_mm.store import read_table
from pipelines.report.counting import categories, edges_of, histogram
from pipelines.report.duplicates import spread
from pipelines.report.looking import Pictures, find
from pipelines.report.stages import Step, meaning_of
from pipelines.synthesize.merging import SYNTHESIS
from pipelines.synthesize.steps import STEPS
from pipelines.types.table import Table
from pipelines.types.taxonomy import Taxonomy

MOST_PAIRS = 12
MOST_REFUSED = 4  # of a reason
ACCEPTED = "merged"  # the reason of a pair that is part of a sample made
COUNTED = ["sample_id", "turn", "style", "relevance", "score", "agrees", "blind_right", "loss"]
FOUND = ("relevance", "score", "again", "agrees", "judged", "blind", "blind_right", "loss")
ROLES = {"writer": "writes", "judge": "checks", "scorer": "scores"}
STEP_MEANINGS = {
    "caption": "a detailed caption is written",
    "question": "a question of the type is written",
    "relevance": "the question fits the picture",
    "answer": "an answer in the style is written",
    "score": "the answer has a score of the least or more",
    "again": "it is answered once more, unseen",
    "judge": "where the two do not agree to the letter: the answer is right",
    "blind": "it is answered without the picture",
    "loss": "the loss of the answer is measured; what is too high is cut in the end",
}
REASON_MEANINGS = {
    "repetition": "the text repeats itself without end",
    "cut_off": "the text has no end within its most tokens",
    "echo": "the text is its prompt again",
    "other_language": "the text is in another language than was asked for",
    "several_lines": "a question of several lines",
    "no_question": "too short or too long to be a question",
    "not_relevant": "the question is not likely to fit the picture",
    "no_score": "the reply names no score",
    "low_score": "the score of the answer is too low",
    "judged_wrong": "the unseen answer agrees, and the judge does not think it right",
    "disagrees": "who has not seen the answer answers otherwise, and does not think it right",
    "right_without_picture": "the answer is found without the picture",
    "high_loss": "among the highest losses of its type",
    "same_question": "nearly the same question about this picture has a better score",
    "repeat": "the sample that it would be part of is there already",
}
TOLD = re.compile(r"(\w+) of picture ([0-9a-f]{32}), ([^:]*): (.*)", re.DOTALL)  # a refused pair's detail


def synthesis(step: Step, notes: list[str]) -> Synthesis:
    """What a stage of synthesis did; `notes` gets what could not be told."""
    manifest = step.manifest
    about, config = manifest.document["synthesis"], manifest.document["config"]
    pictures = Pictures(manifest.library())
    rows = _numbers(step, notes)
    return Synthesis(
        stage=step.title,
        drawn=sum(about["drawn"].values()),
        accepted=sum(about["accepted"].values()),
        pictures=about["pictures"],
        done=about["done"],
        stopped=about["stopped"],
        models=_models(about["engines"]),
        steps=_steps(about["steps"]),
        types=[
            SynthesisType(
                name=name,
                drawn=drawn,
                accepted=about["accepted"].get(name, 0),
                loss_limit=about["loss_limits"].get(name),
            )
            for name, drawn in about["drawn"].items()
        ],
        distributions=_distributions(rows, config) if rows is not None else [],
        pairs=_pairs(manifest, rows, pictures) if rows is not None else [],
        refusals=_refusals(step, pictures),
        table=_table(step.title, config, about["drawn"], notes),
    )


def _models(engines: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who did what, as lines; the seed last."""
    told = [
        (verb, f"{one['spec']}; {one['engine']}, {one['dtype']} on {one['device']}; {one['model']}")
        for role, verb in ROLES.items()
        if (one := engines.get(role))
    ]
    return [*told, ("seed", str(engines["seed"]))]


def _steps(counts: Mapping[str, Mapping[str, int]]) -> list[SynthesisStep]:
    return [
        SynthesisStep(
            name=step.name,
            meaning=STEP_MEANINGS[step.name],
            taken=counts[step.name]["taken"],
            passed=counts[step.name]["passed"],
            failed=counts[step.name].get("failed", 0),
        )
        for step in STEPS
        if step.name in counts
    ]


def _sidecars(manifest: Manifest) -> list[str]:
    return [entry["file"] for entry in manifest.document["sidecars"] if entry["family"] == "synthesis"]


def _numbers(step: Step, notes: list[str]) -> pa.Table | None:
    """COUNTED columns of every accepted pair; None where they are gone."""
    schema = pa.schema([SYNTHESIS.field(name) for name in COUNTED])
    files = _sidecars(step.manifest)
    try:
        tables = [read_table(step.manifest.store, file, COUNTED).cast(schema) for file in files]
    except FileNotFoundError:
        notes.append(f"{step.title}: what its steps found is gone: no pairs and no scores are shown")
        return None
    return pa.concat_tables([schema.empty_table(), *tables])


def _distributions(rows: pa.Table, config: Mapping[str, Any]) -> list[Distribution]:
    """Scores, and what the two other answers came to, of the accepted pairs."""
    found: list[Distribution] = []
    for name, unit, meaning, limit in (
        ("score", "1 to 10", "the answer's score, as the judge gives it", config["min_score"]),
        ("relevance", "probability", "that the question fits its picture", config["min_relevance"]),
        ("loss", "nats a token", "of the answer, under the model that scores", None),
    ):
        values = rows.column(name).drop_null().to_numpy().astype(np.float64)
        if len(values):
            limits = [] if limit is None else [Limit(at=limit)]
            edges, log = edges_of([np.append(values, [one.at for one in limits])], whole=False, tail=0)
            told = Measured(name=name, n=len(values), of="pairs", unit=unit, meaning=meaning)
            found.append(histogram(told, values, edges, log, limits=limits))
    found += _shares(rows, "agrees", "unseen answer", "the same to the letter", "other words, judged right")
    found += _shares(rows, "blind_right", "blind answer", "right without the picture", "not right without it")
    styles = Measured(name="style", n=rows.num_rows, of="pairs", meaning="in which answers are written")
    return [*found, categories(styles, pl.Series("style", rows.column("style").to_pylist(), pl.String))]


def _shares(rows: pa.Table, column: str, name: str, yes: str, no: str) -> list[Distribution]:
    told = rows.column(column).drop_null()
    count = pc.sum(told).as_py() or 0
    bars = [Bar(label=label, count=n) for label, n in ((yes, count), (no, len(told) - count)) if n]
    return [Categories(measured=Measured(name=name, n=len(told), of="pairs"), bars=bars)] if bars else []


def _pairs(manifest: Manifest, rows: pa.Table, pictures: Pictures) -> list[Written]:
    """Some accepted pairs, chosen by the ids of their samples and their turns."""
    turn = rows.column("turn").to_numpy().astype(np.uint64)
    order = np.argsort(mix(halves(id_rows(rows.column("sample_id")))[0] ^ turn, 0), kind="stable")
    chosen = rows.select(["sample_id", "turn"]).take(pa.array(np.sort(order[:MOST_PAIRS]))).to_pylist()
    places = [(row["sample_id"], row["turn"]) for row in chosen]
    samples = find(manifest, {identity for identity, _ in places})
    whole = _whole(manifest, samples)
    return [
        _written(whole[place], samples[place[0]], pictures)
        for place in places
        if place[0] in samples  # others are withdrawn
    ]


def _whole(manifest: Manifest, wanted: Mapping[bytes, Sample]) -> dict[tuple[bytes, int], dict[str, Any]]:
    """The whole rows of samples, by sample and turn."""
    found = {}
    for file in _sidecars(manifest):
        table = read_table(manifest.store, file)
        there = pc.is_in(table.column("sample_id"), pa.array(list(wanted), SYNTHESIS.field("sample_id").type))
        for row in table.filter(there).to_pylist():
            found[row["sample_id"], row["turn"]] = row
    return found


def _written(row: Mapping[str, Any], sample: Sample, pictures: Pictures) -> Written:
    return Written(
        sample_id=sample.sample_id.hex(),
        type=row["type"],
        style=row["style"],
        question=_text(sample.turns[row["turn"] - 1]),
        answer=_text(sample.turns[row["turn"]]),
        medium=pictures.medium(row["media_id"], None),
        **{name: row[name] for name in FOUND},
    )


def _text(turn: Turn) -> str:
    return " ".join(part.text for part in turn.parts if part.text)


class _Why(NamedTuple):
    outcome: str
    reason: str


def _refusals(step: Step, pictures: Pictures) -> list[Refusal]:
    """Every reason but that of the accepted, the commonest first, with some of its pairs."""
    ledger = step.ledger
    counts = ledger.group_by(["outcome", "reason"], use_threads=False).aggregate([([], "count_all")])
    found = [(row["count_all"], _Why(row["outcome"], row["reason"])) for row in counts.to_pylist()]
    found = sorted((one for one in found if one[1].reason != ACCEPTED), key=lambda one: (-one[0], one[1]))
    return [
        Refusal(
            name=why.reason,
            meaning=REASON_MEANINGS.get(why.reason) or meaning_of(why.reason),
            count=count,
            failed=why.outcome == "failed",
            examples=_examples(step, ledger, why, pictures),
        )
        for count, why in found
    ]


def _examples(step: Step, ledger: pa.Table, why: _Why, pictures: Pictures) -> list[Example]:
    own = pc.and_(
        pc.equal(ledger.column("outcome"), why.outcome), pc.equal(ledger.column("reason"), why.reason)
    )
    places = np.flatnonzero(np.asarray(own))
    return [_example(line, pictures) for line in step.lines(places[spread(len(places), MOST_REFUSED)])]


def _example(line: Mapping[str, Any], pictures: Pictures) -> Example:
    """A refused pair: its picture, its texts, and the step that refused it."""
    about = {key: line[key] for key in ("origin", "source", "value", "limit")}
    told = TOLD.fullmatch(line["detail"] or "")
    if told is None:
        return Example(**about, detail=line["detail"] or "")
    question, _, answer = told[4].partition(" → ")
    return Example(
        **about,
        medium=pictures.medium(bytes.fromhex(told[2]), None),
        question=_unquoted(question),
        answer=_unquoted(answer),
        detail=f"{told[1]}: {told[3]}",
    )


def _unquoted(text: str) -> str:
    """A text as it was before `repr`; of one that is cut, without its first quote."""
    try:
        return str(literal_eval(text))
    except (ValueError, SyntaxError):
        return text[1:]


def _table(
    title: str, config: Mapping[str, Any], drawn: Mapping[str, int], notes: list[str]
) -> Sequence[TypeRow]:
    """The table of types that a stage used, if it used one and that is still the same kind of table."""
    if config["table"] is None:
        return []
    try:
        taxonomy, table = Taxonomy.load(config["types"]), Table.read(Path(config["table"]))
        if table.taxonomy_digest != taxonomy.digest:
            raise ValueError(f"it was made with another taxonomy ({table.taxonomy})")
    except ValueError as error:
        notes.append(f"{title}: its table of types is not shown: {error}")
        return []
    return [TypeRow(**row) for row in table.told(taxonomy, drawn)]
