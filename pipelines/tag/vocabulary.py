"""Vocabularies: the tags that a picture can be given, a text file with one a line.

    # a comment
    bar chart | bar graph | column chart = 柱状图

A tag is a few words in lower case; after `|` come other words for it, after `=` its Chinese name. A word
means one tag: no tag or alias comes twice. A Chinese name may be shared, and then stands for the first that
has it.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from infinity_mm.store import digest_of

VOCABULARIES = Path(__file__).parents[1] / "vocabularies"


class Entry(NamedTuple):
    """A tag, other words for it, and its Chinese name ("" where it has none)."""

    tag: str
    aliases: tuple[str, ...] = ()
    chinese: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """The entries of a vocabulary, in its order."""

    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, name: str) -> "Vocabulary":
        """A vocabulary by path, or by the name of one that ships. Raises ValueError, with file and line."""
        path = Path(name)
        if not path.is_file() and (VOCABULARIES / f"{name}.txt").is_file():
            path = VOCABULARIES / f"{name}.txt"
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            shipped = sorted(p.stem for p in VOCABULARIES.glob("*.txt"))
            near = get_close_matches(name, shipped, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"no vocabulary {name!r}: give a text file, or one that ships: {', '.join(shipped)}{hint}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"vocabulary {path} can't be read: {error}; write it as UTF-8 text") from None
        return cls(_parsed(lines, str(path)))

    @property
    def tags(self) -> list[str]:
        return [entry.tag for entry in self.entries]

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the entries; comments and spaces are not part of it."""
        return digest_of(self.entries)[:16]

    @cached_property
    def _by_word(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in self.entries:
            for word in (entry.tag, *entry.aliases):
                found[word] = entry.tag
        for entry in self.entries:
            if entry.chinese:
                found.setdefault(normal(entry.chinese), entry.tag)
        return found

    def match(self, word: str) -> str | None:
        """The tag that a word means, in English or Chinese: as it stands, or its plain plural."""
        word = normal(word)
        for form in (word, word.removesuffix("s"), word.removesuffix("es")):
            if form in self._by_word:
                return self._by_word[form]
        return None


def normal(word: str) -> str:
    """A word as words are compared: one form of each character, lower case, single spaces, no article."""
    words = unicodedata.normalize("NFKC", word).lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


def _parsed(lines: Iterable[str], path: str) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    where: dict[str, tuple[int, str]] = {}  # the line of each word, and the tag that it means
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        place = f"vocabulary {path}, line {number}"
        words, equals, chinese = (part.strip() for part in line.partition("="))
        tag, *aliases = (word.strip() for word in words.split("|"))
        if "=" in chinese or (equals and not chinese):
            raise ValueError(f"{place}: write TAG | ALIAS = CHINESE NAME, with one `=` or none")
        for word in (tag, *aliases):
            if not word:
                raise ValueError(f"{place}: an empty tag or alias: write TAG | ALIAS = CHINESE NAME")
            if word != normal(word):
                raise ValueError(f"{place}: write {normal(word)!r} instead of {word!r}")
            if word in where:
                line_before, meant = where[word]
                what = "is there" if meant == word else f"is an alias of {meant!r}"
                raise ValueError(f"{place}: {word!r} {what} already, in line {line_before}: delete one")
            where[word] = number, tag
        entries.append(Entry(tag, tuple(aliases), chinese))
    if not entries:
        raise ValueError(f"vocabulary {path} has no tags: write one a line")
    return tuple(entries)
