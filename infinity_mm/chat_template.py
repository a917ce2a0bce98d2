"""A chat template as a layout: which texts, special tokens and pictures follow each other, written by whom.

The template is rendered with a mark in place of each text, once for each form of conversation (the roles and
the kinds of their parts), and cut at its marks and special tokens. So no text ever passes through it, and
where each one stands is known without a search.

An answer reaches from where the template's generation prompt ends to the token that ends the answer, both by
the template. A template that takes texts only is given a few lines in front (`FLATTEN`) by which it takes
parts, each picture where it stands in its turn and on a line of its own. Templates are those of transformers
(Jinja, sandboxed); one that asks for the date is always given the same. Time: one rendering a form, and one
for each of its answers.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jinja2 import Template as Compiled

CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
TEMPLATES = {"chatml": CHATML}  # built in, for tokenizers that bring none
FLATTEN = (
    "{%- set flat = namespace(messages=[]) %}"
    "{%- for message in messages %}"
    "{%- if message['content'] is string or message['content'] is none %}"
    "{%- set flat.messages = flat.messages + [message] %}"
    "{%- else %}"
    "{%- set said = namespace(text='') %}"
    "{%- for part in message['content'] %}"
    "{%- if part['type'] == 'text' %}{%- set said.text = said.text + part['text'] %}"
    "{%- else %}"
    "{%- set said.text = said.text + (VIDEO if part['type'] == 'video' else IMAGE) + "
    "('' if loop.last else '\\n') %}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- set flat.messages = flat.messages + [dict(message, content=said.text)] %}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- set messages = flat.messages %}"
)
SPACE = "\u2003"  # beside a mark: gone where a template trims its texts
MARK = re.compile(f"({SPACE}?)\ue000(\\d+)\\.(\\d+)\ue001({SPACE}?)")
DATE = datetime(2024, 7, 26)
Form = tuple[
    tuple[str, tuple[str, ...]], ...
]  # the role and the part types (text, image, video) of each turn
PROBE: Form = (("user", ("text", "image", "text")), ("assistant", ("text",)))


class Slot(NamedTuple):
    """A text's place, and whether the template trims it."""

    turn: int
    part: int
    strip_left: bool
    strip_right: bool


class Run(NamedTuple):
    """What is tokenized in one piece, and whether an assistant writes it. It is stripped at the end where the
    special token beside it takes blanks away."""

    pieces: tuple[str | Slot, ...]
    supervised: bool
    strip_left: bool
    strip_right: bool


class Special(NamedTuple):
    """A special token of the template."""

    id: int
    supervised: bool


class Picture(NamedTuple):
    """A picture's or clip's place."""

    turn: int
    part: int


Item = Run | Special | Picture


class Added(NamedTuple):
    """A special token, and whether it takes the blanks before and after it away."""

    id: int
    strips_before: bool
    strips_after: bool


class Template:
    """A chat template for a tokenizer with special tokens `added`; `text` has FLATTEN where it needs that.

    `variables`: what the template may name, such as bos_token. Raises ValueError for one that is no template.
    """

    def __init__(
        self,
        text: str,
        added: Mapping[str, Added],
        image_token: str,
        video_token: str,
        variables: Mapping[str, str],
    ) -> None:
        self._added, self._variables = added, dict(variables)
        self._tokens = {"image": image_token, "video": video_token}
        words = sorted({*added, image_token, video_token}, key=lambda word: (-len(word), word))
        self._cuts = re.compile(f"{MARK.pattern}|({'|'.join(map(re.escape, words))})")
        self.text = text
        if not self._takes_parts():
            told = {kind.upper(): json.dumps(token) for kind, token in self._tokens.items()}
            self.text = re.sub("IMAGE|VIDEO", lambda found: told[found[0]], FLATTEN) + text
        self.layout = lru_cache(4096)(self._layout)  # forms recur

    def _takes_parts(self) -> bool:
        try:
            text = self._render(PROBE, False)
        except ValueError:
            return False
        marks = sorted((int(m[2]), int(m[3])) for m in MARK.finditer(text))
        return marks == [(0, 0), (0, 2), (1, 0)] and text.count(self._tokens["image"]) == 1

    def _render(self, form: Form, prompt: bool) -> str:
        """The template with a mark for each text. Raises ValueError where it refuses."""
        messages = [
            {
                "role": role,
                "content": [
                    {"type": "text", "text": f"{SPACE}\ue000{t}.{p}\ue001{SPACE}"}
                    if kind == "text"
                    else {"type": kind}
                    for p, kind in enumerate(parts)
                ],
            }
            for t, (role, parts) in enumerate(form)
        ]
        given = {"tools": None, "documents": None, "add_generation_prompt": prompt, **self._variables}
        try:
            return _compiled(self.text).render(messages=messages, **given)
        except Exception as error:  # a template may do anything
            raise ValueError(f"the chat template refuses turns of {_roles(form)}: {error}") from None

    def _layout(self, form: Form, prompt: bool = False) -> tuple[Item, ...]:
        """What a form of conversation is, in order; with `prompt`, asked for the next answer.

        Raises ValueError where the template refuses it, leaves out or repeats a part, or ends an answer
        without a special token.
        """
        text = self._render(form, prompt)
        found = [*self._cuts.finditer(text)]
        parts = {
            kind: [(t, p) for t, (_, own) in enumerate(form) for p, part in enumerate(own) if part == kind]
            for kind in ("text", "image", "video")
        }
        queues = {token: iter(parts[kind]) for kind, token in self._tokens.items()}
        places = [
            (int(match[2]), int(match[3]))
            if match[2]
            else next(queues[match[5]], None)
            if match[5] in queues
            else None
            for match in found
        ]
        told = sorted(place for place in places if place is not None)
        excess = any(place is None and match[5] in queues for match, place in zip(found, places, strict=True))
        if excess or told != sorted(place for of in parts.values() for place in of):
            raise ValueError(f"the chat template leaves out or repeats a part of turns of {_roles(form)}")
        spans = self._answers(form, text, found, places)
        return tuple(_items(self._atoms(text, found, places, spans)))

    def _answers(
        self, form: Form, text: str, found: list[re.Match[str]], places: list[tuple[int, int] | None]
    ) -> list[tuple[int, int]]:
        """From where to where an assistant writes, for each of its turns."""
        spans = []
        for t, (role, _) in enumerate(form):
            if role != "assistant":
                continue
            own = [i for i, place in enumerate(places) if place is not None and place[0] == t]
            start, last = found[own[0]].start(), own[-1]
            try:
                asked = self._render(form[:t], True)
                start = len(asked) if text.startswith(asked) else start
            except ValueError:  # some refuse to be asked for an answer to nothing
                pass
            end = found[last + 1] if last + 1 < len(found) else None
            if end is None or places[last + 1] is not None or text[found[last].end() : end.start()].strip():
                raise ValueError(
                    "the chat template ends an answer with no special token, so that a model could not learn "
                    f"to stop: give another, such as a built-in one ({', '.join(TEMPLATES)})"
                )
            spans.append((start, end.end()))
        return spans

    def _atoms(
        self,
        text: str,
        found: list[re.Match[str]],
        places: list[tuple[int, int] | None],
        spans: list[tuple[int, int]],
    ) -> Iterator[tuple[bool, str | Slot | Added | Picture]]:
        """The rendered text cut at its marks, its special tokens and where answers start; whether each piece
        is an answer's."""

        def inside(at: int) -> bool:
            return any(start <= at < end for start, end in spans)

        def literal(start: int, end: int) -> Iterator[tuple[bool, str]]:
            cuts = [start, *(at for at, _ in spans if start < at < end), end]
            yield from ((inside(a), text[a:b]) for a, b in pairwise(cuts) if a < b)

        at = 0
        for match, place in zip(found, places, strict=True):
            yield from literal(at, match.start())
            at = match.end()
            if place is None:
                yield inside(match.start()), self._added[match[5]]
            elif match[2]:
                yield inside(match.start()), Slot(*place, not match[1], not match[4])
            else:
                yield False, Picture(*place)
        yield from literal(at, len(text))


def _items(atoms: Iterator[tuple[bool, str | Slot | Added | Picture]]) -> Iterator[Item]:
    """Neighbouring texts joined, where they are supervised alike."""
    groups = [
        (supervised, [atom for _, atom in group])
        for (_, supervised), group in groupby(atoms, lambda a: (isinstance(a[1], str | Slot), a[0]))
    ]
    for number, (supervised, group) in enumerate(groups):
        texts = tuple(atom for atom in group if isinstance(atom, str | Slot))
        if texts:
            before = groups[number - 1][1][-1] if number else None
            after = groups[number + 1][1][0] if number + 1 < len(groups) else None
            strip_left = isinstance(before, Added) and before.strips_after
            yield Run(texts, supervised, strip_left, isinstance(after, Added) and after.strips_before)
        for atom in group:
            if isinstance(atom, Added):
                yield Special(atom.id, supervised)
            elif isinstance(atom, Picture):
                yield atom


def _roles(form: Form) -> str:
    return ", ".join(role for role, _ in form)


@lru_cache(8)
def _compiled(template: str) -> "Compiled":
    """As transformers compiles chat templates."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks answers for others' trainers; here they are known without."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = DATE.strftime
    return environment.from_string(template)
