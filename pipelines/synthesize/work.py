"""The map half: the pictures of some units go through all steps together, so that each step is a large batch.

Nothing is kept here but counts: whatever was found follows from stored answers, and is found again from them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from infinity_mm.engines.base import Answer, Engine, Failure, Identity, Picture, Reply, Request
from infinity_mm.engines.scoring import Scorer
from infinity_mm.media.index import Library, Unavailable
from infinity_mm.schema import Part, Turn, media_id
from infinity_mm.store import Store
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.drawing import pairs_of
from pipelines.synthesize.examples import Examples
from pipelines.synthesize.images import Unit
from pipelines.synthesize.kinds import Fitting
from pipelines.synthesize.pairs import Pair
from pipelines.synthesize.reading import nearly_same
from pipelines.synthesize.replies import Replies, Spent
from pipelines.synthesize.steps import STEPS, Asking, Step, take

GRAY = 127


class Losses:
    """A scorer as an engine: of a conversation that ends in an answer, the reply is its mean loss."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self.spec = scorer, scorer.spec

    @property
    def identity(self) -> Identity:
        return self._scorer.identity

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        told = self._scorer.losses([_conversation(request) for request in requests])
        for place, loss in enumerate(told):
            if isinstance(loss, Failure):
                yield place, loss
            else:
                yield place, Reply(repr(loss.mean), "stop", 0, loss.tokens)

    def close(self) -> None:
        self._scorer.close()


class Work:
    """What units are worked on with. `engines`: by what they do, `writer`, `judge` and `scorer`; the last is
    there where loss is wanted."""

    def __init__(
        self,
        store: Store,
        library: Library,
        config: SynthesizeConfig,
        fitting: Fitting,
        engines: Mapping[str, Engine],
    ) -> None:
        self.store, self.library, self.config, self.fitting = store, library, config, fitting
        examples = None
        if config.examples and config.table:
            examples = Examples(Path(config.table), library, config.examples, config.seed)
        self.asking = Asking(config, examples)
        self.engines = engines
        self.spent = Spent()
        self.replies = {e.identity: Replies(store, e, self.spent) for e in engines.values()}
        self.counts: dict[str, Counter[str]] = {step.name: Counter() for step in STEPS}

    def unit(self, unit: Unit) -> list[Pair]:
        """Every pair of a unit's pictures, with what was found; rejected ones say why. Raises EngineError."""
        [pairs] = self.together([unit])
        return pairs

    def together(self, units: Sequence[Unit]) -> list[list[Pair]]:
        """The same of several units, whose pairs are asked about together."""
        shown: dict[bytes, Picture] = {}
        found = [self._drawn(unit, shown) for unit in units]
        everything = [pair for pairs in found for pair in pairs]
        for step in STEPS:
            engine = self.engines.get(step.by)
            if engine is not None:
                self._step(step, everything, shown, self.replies[engine.identity])
        for pairs in found:
            self._alike(pairs)
        return found

    def _drawn(self, unit: Unit, shown: dict[bytes, Picture]) -> list[Pair]:
        """The pairs that are to be written for a unit's pictures, which come into `shown`."""
        pairs: list[Pair] = []
        kinds = self.fitting(unit) if self.config.questions else [[] for _ in unit]
        for image, own in zip(unit, kinds, strict=True):
            drawn = pairs_of(image, own, self.config)
            pairs += drawn
            try:
                shown[image.medium] = Picture(image.medium.hex(), self.library.read(image.medium))
            except Unavailable as error:
                for pair in drawn:
                    pair.reject("picture", error.reason, str(error), failed=True)
        return pairs

    def _step(
        self, step: Step, pairs: Sequence[Pair], shown: Mapping[bytes, Picture], replies: Replies
    ) -> None:
        """Ask one step of all pairs that take it, and read the answers."""
        places = [
            place
            for place, pair in enumerate(pairs)
            if pair.rejected is None and step.wanted(self.config, pair)
        ]
        requests = [self._request(step, pairs[place], shown) for place in places]
        answers = dict(zip(places, replies.ask(requests, step.name == "blind"), strict=True))
        take(self.asking, step, pairs, answers)
        passed = sum(pairs[place].rejected is None for place in places)
        failed = sum(isinstance(answer, Failure) for answer in answers.values())
        self.counts[step.name].update(taken=len(places), passed=passed, failed=failed)

    def _request(self, step: Step, pair: Pair, shown: Mapping[bytes, Picture]) -> Request:
        picture = shown[pair.image.medium]
        if step.name == "blind" and self.config.blind == "gray":
            picture = gray(picture)
        return step.ask(self.asking, pair, picture)

    def _alike(self, pairs: Sequence[Pair]) -> None:
        """Of questions about one picture that are nearly the same, the best-scored one stays."""
        own: dict[bytes, list[Pair]] = {}
        for pair in pairs:
            if pair.rejected is None:
                own.setdefault(pair.image.medium, []).append(pair)
        for some in own.values():
            some.sort(key=lambda pair: (-pair.found.get("score", 0.0), pair.number))
            told = nearly_same([pair.question for pair in some], self.config.max_same)
            for pair, close in zip(some, told, strict=True):
                if close is not None:
                    pair.reject("alike", "same_question", close[1], self.config.max_same)


def turns(pairs: Sequence[Pair]) -> tuple[Turn, ...]:
    """Pairs about one picture as the turns of one sample."""
    said: list[Turn] = []
    for number, pair in enumerate(pairs):
        shown = (Part("image", None, 0),) if number == 0 else ()
        said.append(Turn("user", (*shown, Part("text", pair.question))))
        said.append(Turn("assistant", (Part("text", pair.answer),)))
    return tuple(said)


def gray(picture: Picture) -> Picture:
    """A gray picture of the same size; of a file that does not tell its size, 64 × 64."""
    from PIL import Image as Pillow

    try:
        return _gray(Pillow.open(BytesIO(picture.data)).size)
    except (OSError, ValueError):
        return _gray((64, 64))


@lru_cache(maxsize=64)
def _gray(size: tuple[int, int]) -> Picture:
    from PIL import Image as Pillow

    file = BytesIO()
    Pillow.new("RGB", size, (GRAY,) * 3).save(file, "png")
    data = file.getvalue()
    return Picture(media_id(data).hex(), data)


def _conversation(request: Request) -> tuple[tuple[Turn, ...], list[bytes]]:
    """A request as turns and the files of its pictures."""
    said: list[Turn] = []
    files: list[bytes] = []
    for message in request.messages:
        parts = []
        for part in message.parts:
            if isinstance(part, Picture):
                parts.append(Part("image", None, len(files)))
                files.append(part.data)
            else:
                parts.append(Part("text", part))
        said.append(Turn(message.role, tuple(parts)))
    return tuple(said), files
