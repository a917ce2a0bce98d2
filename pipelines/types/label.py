"""Labelling seed questions: a vision-language model says of which type each is, by choice among a few
names.

Asked is twice with the picture and the question: which of the groups (the prompt `label_group`), then which
of the group's types (`label_leaf`); a level with one member is not asked about. Choices are the names in
the prompt's language, each explained by its line of meaning, so that the choices stay few and the prompt
short. Two rounds of requests; time is the engine's, memory that of the seeds given and their pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from infinity_mm.engines.base import Answer, Engine, Failure, Message, Picture, Request
from infinity_mm.schema import Sample
from pipelines.measures.sample_look import turn_text
from pipelines.prompting import Template
from pipelines.tag.vocabulary import normal
from pipelines.types.taxonomy import Group, Taxonomy, Type

Part = TypeVar("Part", Group, Type)
MOST_CHARACTERS = 2000  # of a question that is shown
MAX_TOKENS = 48


class Seed(NamedTuple):
    """A question that somebody asked about pictures."""

    question: str
    pictures: tuple[Picture, ...]


class Label(NamedTuple):
    """The type of a seed question, and its group: ids of the taxonomy."""

    type: str
    group: str


class Labeller:
    """Prompts and taxonomy, ready to label. Raises ValueError for a prompt that lacks a slot."""

    def __init__(
        self, engine: Engine, taxonomy: Taxonomy, lang: str = "en", folders: Sequence[str] = ()
    ) -> None:
        self.engine, self.taxonomy, self.lang = engine, taxonomy, lang
        self.for_group = Template.load("label_group", lang, folders).needs("question", "options")
        self.for_leaf = Template.load("label_leaf", lang, folders).needs("question", "group", "options")

    @property
    def digests(self) -> dict[str, str]:
        """What labels depend on besides the seeds and the engine."""
        prompts = (self.for_group, self.for_leaf)
        return {"taxonomy": self.taxonomy.digest, **{one.name: one.digest for one in prompts}}

    def label(self, seeds: Sequence[Seed]) -> list[Label | Failure]:
        """The label of each seed, or why it has none. Raises EngineError."""
        found: list[Label | Failure] = [Failure("no_question", "the seed has no text")] * len(seeds)
        asked = {i: self.taxonomy.groups for i, seed in enumerate(seeds) if seed.question.strip()}
        groups = self._choose(asked, lambda i, options: self._ask_group(seeds[i], options))
        inside = {i: group for i, group in groups.items() if isinstance(group, Group)}
        types = self._choose(
            {i: group.types for i, group in inside.items()},
            lambda i, options: self._ask_type(seeds[i], inside[i], options),
        )
        for i, answer in (groups | types).items():
            if isinstance(answer, Type):
                found[i] = Label(answer.id, inside[i].id)
            elif isinstance(answer, Failure):
                found[i] = answer
        return found

    def _ask_group(self, seed: Seed, groups: Sequence[Group]) -> Request:
        text = self.for_group.fill(question=_shown(seed), options=self._options(groups))
        return self._request(seed, text, groups)

    def _ask_type(self, seed: Seed, group: Group, types: Sequence[Type]) -> Request:
        text = self.for_leaf.fill(
            question=_shown(seed), group=group.name.said(self.lang), options=self._options(types)
        )
        return self._request(seed, text, types)

    def _request(self, seed: Seed, text: str, parts: Sequence[Group] | Sequence[Type]) -> Request:
        choices = tuple(part.name.said(self.lang) for part in parts)
        message = Message("user", (*seed.pictures, text))
        return Request(messages=(message,), max_tokens=MAX_TOKENS, choices=choices)

    def _options(self, parts: Sequence[Group] | Sequence[Type]) -> str:
        return "\n".join(f"{part.name.said(self.lang)}: {part.meaning.said(self.lang)}" for part in parts)

    def _choose(
        self, options: Mapping[int, Sequence[Part]], request: Callable[[int, Sequence[Part]], Request]
    ) -> dict[int, Part | Failure]:
        """For each place the option that the engine chose, or why none."""
        found: dict[int, Part | Failure] = {i: parts[0] for i, parts in options.items() if len(parts) == 1}
        places = [i for i in options if i not in found]
        requests = [request(i, options[i]) for i in places]
        for n, answer in self.engine.ask(requests) if requests else ():
            found[places[n]] = self._named(answer, options[places[n]])
        return found

    def _named(self, answer: Answer, parts: Sequence[Part]) -> Part | Failure:
        """The part that a reply names; a server may not have kept to the choices."""
        if isinstance(answer, Failure):
            return answer
        said = normal(answer.text)
        for part in parts:
            if said == normal(part.name.said(self.lang)):
                return part
        return Failure("no_choice", f"{answer.text[:80]!r} is none of the choices")


def seed_of(sample: Sample, pictures: Sequence[Picture]) -> Seed:
    """The first question of a sample, about its pictures (the caller reads them)."""
    asked = (turn_text(turn) for turn in sample.turns if turn.role == "user")
    return Seed(next((text for text in asked if text), ""), tuple(pictures))


def _shown(seed: Seed) -> str:
    return seed.question[:MOST_CHARACTERS]
