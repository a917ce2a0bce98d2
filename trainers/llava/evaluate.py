"""Asking a model the questions of a manifest and scoring its answers against those written there.

Each assistant turn is a question, asked with all turns before it as they are written. Two blind controls tell
what a model would score without looking: `none` gives it gray pictures, `wrong` those of another question of
the same type whose answer is another. Questions are asked in batches of about one length; time is that of the
answers, memory that of a few batches' pictures.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.media.errors import MediaError
from infinity_mm.media.index import Library, Unavailable
from infinity_mm.media.video import iter_frames
from infinity_mm.progress import Progress
from infinity_mm.schema import Sample, Turn, samples_from
from trainers.llava.generate import Question, Sampling
from trainers.llava.scores import Judged, Truth, judge, normalise, tally

GRAY = 127
SORTED = 16  # batches that are put in order of length together


class Answerer(Protocol):
    """A model that is asked: a question becomes a document with `tokens`, documents answers' ids, and `chat`
    decodes them."""

    @property
    def chat(self) -> Any: ...

    def document(self, question: Question) -> Any:
        """Raises ValueError for a question that can't be asked."""

    def tokens(self, documents: Sequence[Any], sampling: Sampling) -> list[list[int]]: ...


class Item(NamedTuple):
    """One question of a manifest, its pictures by their ids, and its written answer."""

    sample_id: bytes
    turns: tuple[Turn, ...]
    media: tuple[bytes, ...]
    right: str
    type: str
    truth: Truth | None


class Asking(NamedTuple):
    """How questions are asked."""

    batch: int = 64
    most: int = 64  # tokens of an answer
    seed: int = 0  # of wrong pictures


class Outcome(NamedTuple):
    """An item's answer: under which control, and how right it is."""

    item: Item
    control: str | None
    answer: str
    judged: Judged

    def row(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {
            "sample_id": self.item.sample_id.hex(),
            "turn": len(self.item.turns),
            "type": self.item.type,
            "control": self.control,
            "answer": self.answer,
            "right": self.item.right,
            **self.judged._asdict(),
        }


def items(
    manifest: Manifest,
    *,
    truth: Path | None = None,
    by: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Item]:
    """The questions of a manifest, in a seeded order, at most `limit` of them; none of a withdrawn sample.

    A question's type is told by `truth`, a truth.jsonl of `imm scenes`; else by the field `by` of what a
    sample's source said of it; else it is its source. Raises ValueError where the truth knows none of the
    samples.
    """
    truths = {} if truth is None else _truths(truth)
    found: list[Item] = []
    known = False
    for sample in _samples(manifest, seed):
        meta = json.loads(sample.meta or "{}")
        told = truths.get(str(meta.get("id")), {})
        known = known or bool(told)
        for number, turn in enumerate(sample.turns):
            if turn.role != "assistant" or any(part.type != "text" for part in turn.parts):
                continue
            right = "".join(part.text or "" for part in turn.parts)
            of = told.get(number)
            kind = of.type if of is not None else str(meta.get(by, "other")) if by else sample.source
            found.append(Item(sample.sample_id, sample.turns[:number], sample.media, right, kind, of))
            if limit is not None and len(found) == limit:
                return found
    if truth is not None and not known:
        raise ValueError(f"{truth} knows none of the manifest's samples: is it of the same scenes?")
    return found


def evaluate(
    answerer: Answerer,
    manifest: Manifest,
    asked: Sequence[Item],
    controls: Sequence[str] = (),
    asking: Asking | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Outcome]]:
    """Scores of all answers together and by type of question, the same of each control; and the answers.

    Under a control, questions without a picture are left out, and under `wrong` those to which no other
    picture of their type has another answer. What can't be asked, its picture gone or damaged, is in
    `failed`.
    """
    asking = asking or Asking()
    library = manifest.library()
    outcomes, failed = _ask(answerer, library, asked, None, asking, progress)
    blind = {}
    for control in controls:
        told, _ = _ask(answerer, library, asked, control, asking, progress)
        blind[control] = scores(told)
        outcomes += told
    result = scores([outcome for outcome in outcomes if outcome.control is None])
    return {**result, "controls": blind, "failed": failed}, outcomes


def _ask(
    answerer: Answerer,
    library: Library,
    asked: Sequence[Item],
    control: str | None,
    asking: Asking,
    progress: Progress | None,
) -> tuple[list[Outcome], list[dict[str, str]]]:
    """The answers to questions, and a row for each that could not be asked."""
    if control == "wrong":
        shown = wrong_pictures(asked, asking.seed)
    else:
        shown = {number: item.media for number, item in enumerate(asked) if item.media or control is None}
    sampling = Sampling(most=asking.most)
    outcomes: list[Outcome] = []
    failed: list[dict[str, str]] = []
    if progress is not None:
        progress.start("ask" if control is None else f"ask, {control} picture", len(shown), "questions")
    for some in _runs(list(shown), asking.batch * SORTED):
        ready = []
        for number in some:
            try:
                question = _question(asked[number].turns, shown[number], library, control == "none")
                ready.append((number, answerer.document(question)))
            except (MediaError, Unavailable, ValueError) as error:
                failed.append({"sample_id": asked[number].sample_id.hex(), "reason": str(error)})
        ready.sort(key=lambda one: len(one[1].tokens))
        for part in _runs(ready, asking.batch):
            said = answerer.tokens([document for _, document in part], sampling)
            for (number, _), ids in zip(part, said, strict=True):
                item, text = asked[number], answerer.chat.decode(ids).strip()
                outcomes.append(Outcome(item, control, text, judge(text, item.right, item.truth)))
            if progress is not None:
                progress.advance(len(part))
    return outcomes, failed


def _runs(values: list[Any], length: int) -> Iterator[list[Any]]:
    yield from (values[at : at + length] for at in range(0, len(values), length))


def wrong_pictures(asked: Sequence[Item], seed: int) -> dict[int, tuple[bytes, ...]]:
    """For each question, by its place, the pictures of another of its type with as many and another answer.

    Without another answer it would be no control: half of a yes-or-no question's pictures would be right.
    """
    alike: dict[tuple[str, int], list[int]] = {}
    for number in np.random.default_rng(seed).permutation(len(asked)).tolist():
        alike.setdefault((asked[number].type, len(asked[number].media)), []).append(number)
    found: dict[int, tuple[bytes, ...]] = {}
    for group in alike.values():
        says = [_said(asked[number]) for number in group]
        if all(said == says[0] for said in says):
            continue
        for place, number in enumerate(group):
            for step in range(1, len(group)):
                other = (place + step) % len(group)
                if says[other] != says[place]:
                    found[number] = asked[group[other]].media
                    break
    return {number: found[number] for number in sorted(found)}


def scores(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All answers together, and those of each type of question."""
    types = sorted({outcome.item.type for outcome in outcomes})
    return {
        **tally(outcome.judged for outcome in outcomes),
        "types": {
            kind: tally(outcome.judged for outcome in outcomes if outcome.item.type == kind) for kind in types
        },
    }


def _said(item: Item) -> object:
    return item.truth.value if item.truth is not None else normalise(item.right)


def _samples(manifest: Manifest, seed: int) -> Iterator[Sample]:
    """Samples in a seeded order, without those that are withdrawn themselves or by their source."""
    gone: dict[int, np.ndarray] = {}
    for shard, row in manifest.order(seed):
        if shard not in gone:
            gone[shard] = manifest.withdrawn.themselves(manifest.table(shard))
        if not gone[shard][row]:
            yield samples_from(manifest.table(shard).slice(row, 1))[0]


def _truths(file: Path) -> dict[str, dict[int, Truth]]:
    """By the id of a record and the number of a turn, what is true."""
    found: dict[str, dict[int, Truth]] = {}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            record: Mapping[str, Any] = json.loads(line)
            scene = record["scenes"][0] if record["scenes"] else {}
            found[record["id"]] = {
                one["turn"]: Truth(record["language"], one["kind"], one["about"], one["value"], scene)
                for one in record["answers"]
            }
    return found


def _question(turns: tuple[Turn, ...], media: Sequence[bytes], library: Library, gray: bool) -> Question:
    """A question with its pictures decoded, or gray ones of their sizes. Raises MediaError, Unavailable."""
    named = {part.media for turn in turns for part in turn.parts if part.media is not None}
    pictures: list[list[np.ndarray]] = []
    kinds: list[str] = []
    for number, medium in enumerate(media):
        kinds.append(str(library.info(medium)["kind"]))
        if number not in named:  # it belongs to a later turn
            pictures.append([np.zeros((1, 1, 3), np.uint8)])
            continue
        data = library.read(medium)
        frames = list(iter_frames(data)) if kinds[-1] == "video" else [decode_image(data).pixels]
        pictures.append([np.full_like(frame, GRAY) for frame in frames] if gray else frames)
    return Question(turns, tuple(pictures), tuple(kinds))
