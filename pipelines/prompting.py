"""Prompt templates: plain text files `NAME.LANG.txt` with `{slots}`, read whole and filled in one pass.

    Template.load("tags", "en").fill(limit=12)

A slot is a lower-case name in braces; any other brace stands for itself, so that a template can show JSON.
What is put into a slot is never read again: text from data or from a model can't become a template, nor
fill another slot. A template is told by its digest, which every request made of it carries on. White space
at a file's start and end is not part of it.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROMPTS = Path(__file__).parent / "prompts"
LANGUAGES = ("en", "zh")
SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True)
class Template:
    """A prompt template: its name, its language and its text with slots."""

    name: str
    lang: str
    text: str

    @classmethod
    def load(cls, name: str, lang: str, folders: Sequence[str | Path] = ()) -> "Template":
        """The template of that name and language: from the first of the user's `folders` that has it, else
        the one that ships. Raises ValueError, in one line with the way out."""
        file = f"{name}.{lang}.txt"
        for folder in folders:
            if not Path(folder).is_dir():
                raise ValueError(f"no folder of prompts {folder}: name one with files such as {file}")
        path = next((p for folder in [*folders, PROMPTS] if (p := Path(folder) / file).is_file()), None)
        if path is None:
            shipped = ", ".join(sorted(p.name for p in PROMPTS.glob("*.txt")))
            raise ValueError(f"no prompt {file}: put it into a folder of prompts; those that ship: {shipped}")
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"prompt {path} can't be read: {error}; write it as UTF-8 text") from None
        if not text:
            raise ValueError(f"prompt {path} is empty: write it, or delete it to use the one that ships")
        return cls(name, lang, text)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of its slots, each once, in order."""
        return tuple(dict.fromkeys(SLOT.findall(self.text)))

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def needs(self, *names: str) -> "Template":
        """Itself, if its slots are these. Raises ValueError, so that a user's own template is refused before
        anything is asked with it."""
        self._check(set(names))
        return self

    def fill(self, **slots: object) -> str:
        """The text with each slot replaced, as `str` writes it. Raises ValueError for a slot that is missing
        or that the template does not have."""
        self._check(set(slots))
        return SLOT.sub(lambda found: str(slots[found[1]]), self.text)

    def _check(self, given: set[str]) -> None:
        has = set(self.slots)
        for name in sorted(has - given):
            raise ValueError(f"prompt {self.name}.{self.lang}: nothing is given for its slot {{{name}}}")
        for name in sorted(given - has):
            known = ", ".join(f"{{{slot}}}" for slot in self.slots) or "none"
            raise ValueError(f"prompt {self.name}.{self.lang} has no slot {{{name}}}; its slots: {known}")
