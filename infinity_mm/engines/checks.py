"""What all engines ask of a request before it is run, and of a reply before it is given."""

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from infinity_mm.engines.base import Answer, Failure, Message, Picture, Reply, Request
from infinity_mm.engines.json_schema import mismatch
from infinity_mm.media.decode import MediaError, decode_image

TOO_LONG = re.compile(r"context.{0,20}length|maximum model length|prompt is too long|too many tokens", re.I)
LATEST = 4  # decoded pictures that are kept: requests about one follow each other


class Refused(Exception):
    """A request that can't be run, as its `failure` says."""

    def __init__(self, reason: str, detail: object) -> None:
        super().__init__(reason, detail)
        self.failure = Failure(reason, one_line(detail))


def one_line(said: object, most: int = 300) -> str:
    """What an exception or a server said, without line breaks."""
    return " ".join(str(said).split())[:most]


def parts_of(message: Message) -> list[str | Picture]:
    """A turn's parts, with texts that follow each other as one: whatever a template puts between parts."""
    parts: list[str | Picture] = []
    for part in message.parts:
        if parts and isinstance(part, str) and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def special_tokens(tokenizer: Any) -> frozenset[str]:
    """The texts that a tokenizer of transformers takes for marks: of turns, of pictures, of an end."""
    return frozenset(t.content for t in tokenizer.added_tokens_decoder.values() if t.special)


def plain(request: Request, marks: frozenset[str]) -> None:
    """Raises Refused for a text that spells a special token: the model would take it for the mark itself."""
    for message in request.messages:
        for part in message.parts:
            spelled = [mark for mark in marks if isinstance(part, str) and mark in part]
            if spelled:
                raise Refused("refused", f"a text spells the model's own token {min(spelled)!r}")


def pictures_of(request: Request) -> list[Picture]:
    """The pictures of a request in their order, the same one as often as it is shown."""
    return [part for message in request.messages for part in message.parts if isinstance(part, Picture)]


def images_of(request: Request) -> list[Any]:
    """The same, decoded: PIL images in RGB, upright, alpha over white. Raises Refused."""
    return [_decoded(picture) for picture in pictures_of(request)]


@lru_cache(maxsize=LATEST)
def _decoded(picture: Picture) -> Any:
    from PIL import Image

    try:
        return Image.fromarray(decode_image(picture.data).pixels)
    except MediaError as error:
        raise Refused("bad_picture", f"picture {picture.id}: {error}") from None


def fits(prompt_tokens: int, request: Request, context: int | None) -> None:
    """Raises Refused for a prompt that leaves no room for max_tokens in a model's context."""
    if context is not None and prompt_tokens + request.max_tokens > context:
        raise Refused(
            "prompt_too_long",
            f"{prompt_tokens} tokens and max_tokens {request.max_tokens} are more than the model's {context}",
        )


def covering(ids: Sequence[int], text: str, decode: Callable[[Sequence[int]], str]) -> int:
    """How many of a reply's tokens it takes to write its text, which may have been cut."""
    count = len(ids)
    while count and decode(ids[: count - 1]).startswith(text):
        count -= 1
    return count


def checked(request: Request, reply: Reply) -> Answer:
    """A reply that is what was asked for, without white space around it, or the failure that it is."""
    text = reply.text.strip()
    if not text:
        return Failure("empty_reply", f"{reply.reply_tokens} tokens without text")
    if request.choices and text not in request.choices:
        return Failure("not_a_choice", one_line(repr(text)))
    if request.schema is not None and (wrong := _not_json(text, request)):
        return Failure("not_json", f"{wrong}: {one_line(repr(text), 200)}")
    return reply._replace(text=text)


def _not_json(text: str, request: Request) -> str | None:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return one_line(error, 80)
    return mismatch(value, request.schema)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
