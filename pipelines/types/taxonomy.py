"""A taxonomy of instructions in three levels, from a YAML file: groups, topics, and the types themselves.

A type has an id, a name, a line of meaning, what a prompt calls it (`asks`, else its name) and an example,
in English and Chinese, and aliases: former ids and other names. Types are merged, split, renamed and added
in the file alone: whatever was labelled with a former id or name counts for the type that has it as an
alias. A word names one type: two that share an id, a name or an alias are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from infinity_mm.store import digest_of
from infinity_mm.yaml_file import load as load_yaml
from pipelines.tag.vocabulary import normal

TAXONOMIES = Path(__file__).parents[1] / "taxonomies"
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(_Part):
    """The same in each language."""

    en: Text
    zh: Text

    def said(self, lang: str) -> str:
        """In a language: en or zh."""
        words: str = getattr(self, lang)
        return words


class Type(_Part):
    """A type of instruction, a leaf of the taxonomy."""

    id: Id
    name: Words
    meaning: Words
    example: Words
    asks: Words | None = None
    aliases: list[Text] = []

    def called(self, lang: str) -> str:
        """What a prompt that wants such a question names it: "the color of an object"."""
        return (self.asks or self.name).said(lang)


class Topic(_Part):
    """Types that belong together."""

    id: Id
    name: Words
    types: list[Type] = Field(min_length=1)


class Group(_Part):
    """An ability, the first level."""

    id: Id
    name: Words
    meaning: Words
    topics: list[Topic] = Field(min_length=1)

    @property
    def types(self) -> list[Type]:
        return [one for topic in self.topics for one in topic.types]


class _File(_Part):
    name: Id
    groups: list[Group] = Field(min_length=1)


@dataclass(frozen=True)
class Taxonomy:
    """Groups of topics of types, in the file's order."""

    name: str
    groups: tuple[Group, ...]

    @classmethod
    def load(cls, name: str) -> "Taxonomy":
        """A taxonomy by path, or by the name of one that ships. Raises ValueError: file, place, way out."""
        path = Path(name)
        if not path.is_file() and (TAXONOMIES / f"{name}.yaml").is_file():
            path = TAXONOMIES / f"{name}.yaml"
        try:
            read = _File.model_validate(load_yaml(path, "taxonomy"))
        except FileNotFoundError:
            shipped = sorted(p.stem for p in TAXONOMIES.glob("*.yaml"))
            near = get_close_matches(name, shipped, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"no taxonomy {name!r}: give a YAML file, or one that ships: {', '.join(shipped)}{hint}"
            ) from None
        except ValidationError as error:
            raise ValueError(f"taxonomy {path}: {_first(error)}") from None
        if problem := _clash(read.groups):
            raise ValueError(f"taxonomy {path}: {problem}")
        return cls(read.name, tuple(read.groups))

    @cached_property
    def types(self) -> dict[str, Type]:
        """Every type by its id."""
        return {one.id: one for group in self.groups for one in group.types}

    @cached_property
    def group_of(self) -> dict[str, Group]:
        """The group of each type, by the type's id."""
        return {one.id: group for group in self.groups for one in group.types}

    @cached_property
    def digest(self) -> str:
        """16 hex digits of everything it says."""
        return digest_of([self.name, [group.model_dump() for group in self.groups]])[:16]

    def path(self, id: str) -> tuple[str, str, str]:
        """The ids of a type's group, topic and itself."""
        group = self.group_of[id]
        topic = next(topic for topic in group.topics if any(one.id == id for one in topic.types))
        return group.id, topic.id, id

    def find(self, word: str) -> Type | None:
        """The type that an id, a name in either language, or an alias means."""
        return self._by_word.get(normal(word))

    def get(self, word: str) -> Type:
        """The same; raises ValueError for a word that names none."""
        found = self.find(word)
        if found is None:
            near = get_close_matches(normal(word), self._by_word, n=1, cutoff=0.6)
            hint = f"; did you mean {self._by_word[near[0]].id!r}?" if near else ""
            raise ValueError(f"taxonomy {self.name} has no type {word!r}{hint}")
        return found

    @cached_property
    def _by_word(self) -> dict[str, Type]:
        return {word: one for one in self.types.values() for word in _words(one)}


def _clash(groups: Sequence[Group]) -> str | None:
    """What is wrong where a word names two parts of one level."""
    topics = [(f"{group.id}.{topic.id}", topic) for group in groups for topic in group.topics]
    types = [(f"{path}.{one.id}", one) for path, topic in topics for one in topic.types]
    levels: list[list[tuple[str, dict[str, str]]]] = [
        [(group.id, _names(group)) for group in groups],
        [(path, _names(topic)) for path, topic in topics],
        [(path, _words(one)) for path, one in types],
    ]
    for level in levels:
        taken: dict[str, tuple[str, str]] = {}  # by word: the part that has it, and as what
        for path, words in level:
            for word, what in words.items():
                if word in taken:
                    before, was = taken[word]
                    return (
                        f"{path}: {word!r}, its {what}, is the {was} of {before} already: "
                        "give one of them another, or make the two one"
                    )
            taken |= {word: (path, what) for word, what in words.items()}
    return None


def _names(part: Group | Topic | Type) -> dict[str, str]:
    """What a part is called, each word as words are compared, and as what it has it."""
    return {normal(part.name.zh): "name", normal(part.name.en): "name", normal(part.id): "id"}


def _words(one: Type) -> dict[str, str]:
    return {**{normal(alias): "alias" for alias in one.aliases}, **_names(one)}


def _first(error: ValidationError) -> str:
    """The first problem of a file: its place, and what to do."""
    problem = error.errors(include_url=False)[0]
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem["loc"]).lstrip(".")
    kind, value = problem["type"], problem["input"]
    if kind == "missing":
        said = "is missing: write it"
        if problem["loc"][-1] in ("en", "zh"):
            said = "is missing: write it in English and in Chinese"
    elif kind == "extra_forbidden":
        said = "is unknown: check its spelling, or delete it"
    elif kind == "recursion_loop":
        said = "contains itself by a YAML anchor: write it out"
    elif kind == "string_pattern_mismatch":
        said = f"is {value!r}: an id has small letters, digits and _, a letter first"
    elif kind in ("too_short", "string_too_short"):
        said = "is empty: write it, or delete what it belongs to"
    else:
        said = f"is {str(value)[:60]!r}: {problem['msg']}"
    return f"{place or 'the file'} {said}"
