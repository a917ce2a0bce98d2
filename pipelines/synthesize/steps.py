"""The steps of synthesis, each a request made of a pair and a reading of its reply.

    caption     a detailed caption, with a plain request for one as its question    (captions only)
    question    a question of a type, with examples of the type                     (§3.2.3)
    relevance   whether the question fits the picture: a choice                     (§3.2.3)
    answer      in one of three styles                                              (§3.2.4)
    score       1 to 10, as the expectation over the score's probabilities          (§3.2.4)
    again       answered once more, in a word or phrase, by who has not seen the answer
    judge       where that does not agree to the letter, or of all: whether the answer is right, a choice
    blind       answered without the picture
    loss        of a scoring model on picture, question and answer; cut by quantile in the end (§3.2.4)

The paper publishes neither prompts nor numbers but the limit of 8; again, judge and blind are ours. A prompt
of a choice ends in a line `[good | bad]`, its two replies, which is not sent.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from infinity_mm.engines.base import Answer, Failure, Message, Picture, Reply, Request
from pipelines.prompting import Template
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.examples import Examples
from pipelines.synthesize.pairs import CAPTION, Pair
from pipelines.synthesize.reading import (
    agree,
    chance_of,
    expected_score,
    not_a_question,
    refused,
)

CHOICES = re.compile(r"\n\[(.+?) \| (.+?)\]\s*\Z")
TOP = 20  # likeliest tokens that are told of a choice or a score
BRIEF, QUESTION, SCORE = 32, 96, 4  # tokens


class Chosen(NamedTuple):
    """A prompt of a choice: the text that is sent, and the two replies."""

    template: Template
    good: str
    bad: str


@cache
def template(name: str, lang: str, folders: tuple[Path, ...]) -> Template:
    return Template.load(name, lang, folders)


@cache
def chosen(name: str, lang: str, folders: tuple[Path, ...]) -> Chosen:
    """Raises ValueError for a prompt without its line of choices."""
    whole = template(name, lang, folders)
    found = CHOICES.search(whole.text)
    if found is None:
        raise ValueError(f"prompt {name}.{lang}: its last line must name the two replies, as in [Yes | No]")
    return Chosen(Template(whole.name, lang, whole.text[: found.start()].strip()), found[1], found[2])


class Asking:
    """How pairs are asked about: prompts, examples, seeds and limits of one configuration."""

    def __init__(self, config: SynthesizeConfig, examples: Examples | None = None) -> None:
        self.config, self.examples = config, examples
        self.folders = tuple(config.prompt_folders())
        for lang in ("en", "zh") if config.language == "auto" else (config.language,):
            self.check(lang)

    def check(self, lang: str) -> None:
        """Every prompt there is, before anything is asked. Raises ValueError."""
        if self.config.captions:
            template("caption", lang, self.folders).needs()
            template("caption_ask", lang, self.folders).needs()
        template("question", lang, self.folders).needs("kind")
        for style in self.config.styles:
            template(f"answer_{style}", lang, self.folders).needs("question")
        template("again", lang, self.folders).needs("question")
        template("score", lang, self.folders).needs("question", "answer")
        for name, slots in (("relevance", ("question",)), ("judge", ("question", "answer"))):
            chosen(name, lang, self.folders).template.needs(*slots)

    def filled(self, pair: Pair, name: str, **slots: str) -> str:
        """A prompt for a pair, whose digest it remembers."""
        made = template(name, pair.image.lang, self.folders)
        pair.prompts[name] = made.digest
        return made.fill(**slots)

    def choice(self, pair: Pair, name: str, **slots: str) -> tuple[str, Chosen]:
        """The same, of a choice."""
        made = chosen(name, pair.image.lang, self.folders)
        pair.prompts[name] = template(name, pair.image.lang, self.folders).digest
        return made.template.fill(**slots), made

    def request(self, text: str, shown: Sequence[Picture], tokens: int, written: bool = False) -> Request:
        """One user turn, pictures first. `written`: whether the configuration's temperature holds for it."""
        return Request(
            messages=(Message("user", (*shown, text)),),
            max_tokens=tokens,
            temperature=self.config.temperature if written else 0.0,
            seed=self.config.seed,
        )


Ask = Callable[[Asking, Pair, Picture], Request]
Read = Callable[[Asking, Pair, Reply], None]


class Step(NamedTuple):
    """`wanted`: whether a pair that is not rejected takes this step; `by`: which model does."""

    name: str
    wanted: Callable[[SynthesizeConfig, Pair], bool]
    ask: Ask
    read: Read
    by: Literal["writer", "judge", "scorer"] = "writer"


def _ask_caption(asking: Asking, pair: Pair, picture: Picture) -> Request:
    pair.question = asking.filled(pair, "caption_ask")
    return asking.request(asking.filled(pair, "caption"), [picture], asking.config.max_answer, written=True)


def _read_caption(asking: Asking, pair: Pair, reply: Reply) -> None:
    _keep_text(asking, pair, reply, "caption", asking.filled(pair, "caption"))


def _ask_question(asking: Asking, pair: Pair, picture: Picture) -> Request:
    text = asking.filled(pair, "question", kind=pair.kind.asks[pair.image.lang])
    request = asking.request(text, [picture], QUESTION, written=True)
    shown = asking.examples.draw(pair) if asking.examples else []
    before = [
        message
        for example, question in shown
        for message in (Message("user", (example, text)), Message("assistant", (question,)))
    ]
    return replace(_numbered(request, pair), messages=(*before, *request.messages))


def _read_question(asking: Asking, pair: Pair, reply: Reply) -> None:
    prompt = asking.filled(pair, "question", kind=pair.kind.asks[pair.image.lang])
    reason = refused(reply, pair.image.lang, prompt) or not_a_question(reply.text)
    pair.question = reply.text.strip()
    if reason:
        pair.reject("question", reason, reply.text)


def _ask_relevance(asking: Asking, pair: Pair, picture: Picture) -> Request:
    text, choice = asking.choice(pair, "relevance", question=pair.question)
    return _choosing(asking.request(text, [picture], BRIEF), choice)


def _read_relevance(asking: Asking, pair: Pair, reply: Reply) -> None:
    _, choice = asking.choice(pair, "relevance", question=pair.question)
    pair.found["relevance"] = value = chance_of(reply, choice.good, choice.bad)
    if value < asking.config.min_relevance:
        pair.reject("relevance", "not_relevant", value, asking.config.min_relevance)


def _ask_answer(asking: Asking, pair: Pair, picture: Picture) -> Request:
    text = asking.filled(pair, f"answer_{pair.style}", question=pair.question)
    tokens = BRIEF if pair.style == "brief" else asking.config.max_answer
    return asking.request(text, [picture], tokens, written=True)


def _read_answer(asking: Asking, pair: Pair, reply: Reply) -> None:
    _keep_text(asking, pair, reply, "answer", pair.question)


def _ask_score(asking: Asking, pair: Pair, picture: Picture) -> Request:
    text = asking.filled(pair, "score", question=pair.question, answer=pair.answer)
    return _telling(asking.request(text, [picture], SCORE))


def _read_score(asking: Asking, pair: Pair, reply: Reply) -> None:
    score = expected_score(reply)
    if score is None:
        return pair.reject("score", "no_score", reply.text)
    pair.found["score"] = score
    if score < asking.config.min_score:
        pair.reject("score", "low_score", score, asking.config.min_score)


def _ask_again(asking: Asking, pair: Pair, picture: Picture) -> Request:
    return asking.request(asking.filled(pair, "again", question=pair.question), [picture], BRIEF)


def _read_again(asking: Asking, pair: Pair, reply: Reply) -> None:
    pair.found["again"] = reply.text.strip()
    pair.found["agrees"] = agree(pair.answer, reply.text)


def _ask_judge(asking: Asking, pair: Pair, picture: Picture) -> Request:
    text, choice = asking.choice(pair, "judge", question=pair.question, answer=pair.answer)
    return _choosing(asking.request(text, [picture], BRIEF), choice)


def _read_judge(asking: Asking, pair: Pair, reply: Reply) -> None:
    _, choice = asking.choice(pair, "judge", question=pair.question, answer=pair.answer)
    pair.found["judged"] = value = chance_of(reply, choice.good, choice.bad)
    if value < asking.config.min_judged and pair.found.get("agrees", False):
        pair.reject("judge", "judged_wrong", value, asking.config.min_judged)
    elif value < asking.config.min_judged:
        pair.reject("judge", "disagrees", pair.found.get("again"), "the answer")


def _ask_blind(asking: Asking, pair: Pair, picture: Picture) -> Request:
    shown = [picture] if asking.config.blind == "gray" else []
    return asking.request(asking.filled(pair, "again", question=pair.question), shown, BRIEF)


def _read_blind(asking: Asking, pair: Pair, reply: Reply) -> None:
    pair.found["blind"] = reply.text.strip()
    pair.found["blind_right"] = right = agree(pair.answer, reply.text)
    if right and asking.config.drop_blind:
        pair.reject("blind", "right_without_picture", reply.text)


def _ask_loss(asking: Asking, pair: Pair, picture: Picture) -> Request:
    said = (Message("user", (picture, pair.question)), Message("assistant", (pair.answer,)))
    return Request(messages=said, max_tokens=1)  # nothing is written


def _read_loss(asking: Asking, pair: Pair, reply: Reply) -> None:
    pair.found["loss"] = float(reply.text)


def _keep_text(asking: Asking, pair: Pair, reply: Reply, step: str, prompt: str) -> None:
    pair.answer = reply.text.strip()
    reason = refused(reply, pair.image.lang, prompt)
    if reason:
        pair.reject(step, reason, reply.text)


def _telling(request: Request) -> Request:
    return replace(request, top_logprobs=TOP)


def _choosing(request: Request, choice: Chosen) -> Request:
    return replace(request, choices=(choice.good, choice.bad), top_logprobs=TOP)


def _numbered(request: Request, pair: Pair) -> Request:
    """Questions of one type for one picture differ by their seed where they are drawn."""
    return replace(request, seed=request.seed + pair.number) if request.temperature else request


def _is_caption(config: SynthesizeConfig, pair: Pair) -> bool:
    return pair.kind.id == CAPTION


def _is_question(config: SynthesizeConfig, pair: Pair) -> bool:
    return pair.kind.id != CAPTION


def _always(config: SynthesizeConfig, pair: Pair) -> bool:
    return True


STEPS: tuple[Step, ...] = (
    Step("caption", _is_caption, _ask_caption, _read_caption),
    Step("question", _is_question, _ask_question, _read_question),
    Step("relevance", _is_question, _ask_relevance, _read_relevance, by="judge"),
    Step("answer", _is_question, _ask_answer, _read_answer),
    Step("score", _always, _ask_score, _read_score, by="judge"),
    Step(
        "again",
        lambda config, pair: config.again and _is_question(config, pair),
        _ask_again,
        _read_again,
        by="judge",
    ),
    Step(
        "judge",
        lambda config, pair: "agrees" in pair.found and (config.judge_all or not pair.found["agrees"]),
        _ask_judge,
        _read_judge,
        by="judge",
    ),
    Step(
        "blind",
        lambda config, pair: config.blind != "none" and _is_question(config, pair),
        _ask_blind,
        _read_blind,
        by="judge",
    ),
    Step("loss", lambda config, pair: config.loss is not None, _ask_loss, _read_loss, by="scorer"),
)


def take(asking: Asking, step: Step, pairs: Sequence[Pair], answers: Mapping[int, Answer]) -> None:
    """Read a step's answers, by the place of their pair."""
    for place, answer in answers.items():
        if isinstance(answer, Failure):
            pairs[place].reject(step.name, answer.reason, answer.detail, failed=True)
        else:
            step.read(asking, pairs[place], answer)
