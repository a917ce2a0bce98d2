"""Conversations as tokens, with what a model is to learn known by construction.

Texts never pass through the chat template (`infinity_mm.chat_template` lays it out around them), so a text
that spells "<image>" or "<|im_end|>" is made of ordinary tokens. What lies between two special tokens is
tokenized in one piece, as a tokenizer does with a whole prompt, but for an answer: it begins a piece of its
own where the generation prompt ends, as it does when a model writes it.

Supervised are the text of an answer and the token that ends it; nothing of system, user or tool turns, and no
picture. Time: about 10 µs a text of a few words.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.chat_template import TEMPLATES, Added, Form, Picture, Run, Slot, Special, Template
from infinity_mm.schema import Turn

VERSION = 1  # of the way tokens are made


class Encoded(NamedTuple):
    """A conversation as tokens. Each picture or clip is one image token, of whatever length it will be."""

    tokens: np.ndarray  # int32 [T]
    supervised: np.ndarray  # bool [T]
    media: tuple[tuple[int, int], ...]  # of each image token: its place, and the medium's number


def chat_of(
    tokenizer: Any,
    template: str | None = None,
    *,
    image_token: str = "<image>",
    video_token: str = "<video>",
) -> "Chat":
    """The chat of a fast tokenizer of transformers, or of a `tokenizers.Tokenizer`.

    `template`: Jinja text, or a name in TEMPLATES; without it, the tokenizer's own. Raises ValueError where
    there is none, where an answer ends without a special token, or where `image_token` is no special token.
    """
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    variables: dict[str, str] = {}
    if not hasattr(tokenizer, "to_str"):
        variables = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        if template is None:
            template = tokenizer.chat_template
            template = template.get("default") if isinstance(template, Mapping) else template
        tokenizer = getattr(tokenizer, "backend_tokenizer", None)
        if tokenizer is None:
            raise ValueError(f"tokenizer {name} is a slow one: give one that has a tokenizer.json")
    if not template:
        raise ValueError(
            f"tokenizer {name} has no chat template: name a built-in one ({', '.join(TEMPLATES)}), or give "
            "the Jinja text of one"
        )
    return Chat(tokenizer.to_str(), TEMPLATES.get(template, template), image_token, video_token, variables)


class Chat:
    """A tokenizer with a chat template: see `chat_of`. It can be pickled.

    `tokenizer`: the text of a tokenizer.json; `variables`: what the template may name, such as bos_token.
    """

    def __init__(
        self,
        tokenizer: str,
        template: str,
        image_token: str = "<image>",
        video_token: str = "<video>",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        from tokenizers import Tokenizer

        self._given = (tokenizer, template, image_token, video_token, dict(variables or {}))
        self._tokenizer = Tokenizer.from_str(_without_prefix_space(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # what spells a special token is a text
        added = {
            token.content: Added(number, token.lstrip, token.rstrip)
            for number, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        if image_token not in added:
            raise ValueError(
                f"{image_token!r} is no special token of the tokenizer: add it as one, or name the one it has"
            )
        self.image_id = added[image_token].id
        self._template = Template(template, added, image_token, video_token, self._given[4])
        asked: Form = (("user", ("text",)), ("assistant", ("text",)))
        written = [item for item in self._template.layout(asked * 2) if isinstance(item, Special)]
        self.end_id = [item.id for item in written if item.supervised][-1]  # the token that ends an answer

    def __reduce__(self) -> tuple[Any, ...]:
        return Chat, self._given

    @property
    def template(self) -> str:
        """The Jinja text, for messages of parts or of texts: what is exported with a model."""
        return self._template.text

    @cached_property
    def digest(self) -> str:
        """What tokens depend on besides a conversation, sha256 in hex."""
        text = json.dumps([VERSION, self.template, *self._given], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def encode(self, turns: Sequence[Turn], prompt: bool = False) -> Encoded:
        """The tokens of a conversation; with `prompt`, asked for the next answer.

        Raises ValueError where the template refuses it, or a part marks a medium that its sample lacks.
        """
        tokens: list[int] = []
        supervised: list[bool] = []
        media: list[tuple[int, int]] = []
        form = tuple((turn.role, tuple(part.type for part in turn.parts) or ("text",)) for turn in turns)
        for item in self._template.layout(form, prompt):
            if isinstance(item, Run):
                ids = self._encode_run(item, turns)
                tokens += ids
                supervised += [item.supervised] * len(ids)
            elif isinstance(item, Special):
                tokens.append(item.id)
                supervised.append(item.supervised)
            else:
                media.append((len(tokens), _medium(turns, item)))
                tokens.append(self.image_id)
                supervised.append(False)
        return Encoded(np.array(tokens, np.int32), np.array(supervised, bool), tuple(media))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; special tokens are left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _encode_run(self, run: Run, turns: Sequence[Turn]) -> list[int]:
        text = "".join(piece if isinstance(piece, str) else _text(turns, piece) for piece in run.pieces)
        text = text.lstrip() if run.strip_left else text
        text = text.rstrip() if run.strip_right else text
        # One text at a time: the library's batches start threads, which a forked worker can't use.
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else []


def _text(turns: Sequence[Turn], slot: Slot) -> str:
    parts = turns[slot.turn].parts
    text = (parts[slot.part].text or "") if parts else ""
    text = text.lstrip() if slot.strip_left else text
    return text.rstrip() if slot.strip_right else text


def _medium(turns: Sequence[Turn], place: Picture) -> int:
    part = turns[place.turn].parts[place.part]
    if part.media is None:
        raise ValueError(f"turn {place.turn + 1} marks a medium ({part.type}) that the sample does not have")
    return part.media


def _without_prefix_space(tokenizer: str) -> str:
    """A tokenizer that puts a space before the first piece alone puts none: no piece is a prompt's first."""
    value = json.loads(tokenizer)
    pre = value.get("pre_tokenizer") or {}
    first = [one for one in [pre, *pre.get("pretokenizers", ())] if one.get("prepend_scheme") == "first"]
    for one in first:
        one["prepend_scheme"] = "never"
    return json.dumps(value) if first else tokenizer
