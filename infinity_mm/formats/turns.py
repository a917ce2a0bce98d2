"""A record of any JSON-like format to turns and media.

Markers are resolved here, at the door: the k-th `<image>` is the record's k-th picture, one newline right
after a marker belongs to it (the LLaVA way of writing "<image>\\nQuestion"), and a marker beyond the last
picture becomes a part without a medium. Text in parts of a message is never searched for markers.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from infinity_mm.formats.json_value import dump, type_name
from infinity_mm.formats.media_refs import MEDIA_FIELDS, Media, RecordError, media_of
from infinity_mm.formats.types import Options, Record, Reject
from infinity_mm.schema import Part, Turn

ROLE_NAMES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "model", "function_call"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
MARKER = re.compile(r"<(image|video)>\n?")
TEXT_PARTS = ("text", "input_text", "output_text")
MEDIA_PARTS = {
    **dict.fromkeys(("image", "image_url", "input_image"), "image"),
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
}
PLACES = ("url", "path", "source", "data", "bytes", "base64")
TURN_FIELDS = frozenset(("from", "value", "role", "content"))
# fields that hold a conversation: none of them may be a record's own field in what we write
CONVERSATION_FIELDS = (
    "conversations",
    "messages",
    "conversation",
    "system",
    "prompt",
    "chosen",
    "rejected",
    "rejected_messages",
)
FORMAT_FIELDS = {"llava": ("conversations",), "messages": ("messages", "conversations", "conversation")}


def record_from(
    value: Any, row: int, path: str, options: Options, style: str, key: str | None = None
) -> Record | Reject:
    """Read a record whose conversation is in a list of turns. `style`: "llava" or "messages".

    The styles differ in where the list is kept and in markers: in a LLaVA record "<image>" always marks a
    picture, in messages only where the record has pictures or clips. `value` may be a `Bad`.
    """
    return guarded(_conversation, value, row, path, options, key, style)


def guarded(
    build: Any, value: Any, row: int, path: str, options: Options, key: str | None, *more: Any
) -> Record | Reject:
    """`build(value, row, path, options, key, ...)` with everything a record may do wrong as one Reject."""
    if not isinstance(value, dict):
        if hasattr(value, "reason"):
            return Reject(row, value.reason, value.detail, key)
        return Reject(row, "not_an_object", f"the record is {type_name(value)}", key)
    try:
        record: Record = build(value, row, path, options, key, *more)
        check_unicode(record)
        return record
    except RecordError as error:
        return Reject(row, error.bad.reason, printable(error.bad.detail), key)
    except RecursionError:
        return Reject(row, "malformed_json", "nested too deeply", key)


def _conversation(
    record: dict[str, Any], row: int, path: str, options: Options, key: str | None, style: str
) -> Record:
    fields = [f for f in FORMAT_FIELDS[style] if record.get(f) is not None]
    used = {*fields[:1], *MEDIA_FIELDS}
    chosen, rejected = _preference(record, used)
    if not fields and chosen is None:
        kinds = ", ".join(record) or "no fields"
        raise RecordError("no_conversation", f"no {' or '.join(FORMAT_FIELDS[style])} among: {kinds}"[:300])
    main = record[fields[0]] if fields else _prompt(record, used)
    if not isinstance(main, list):
        raise RecordError("bad_type", f"{fields[0]} is {type_name(main)}, not a list")
    if chosen is not None:
        if chosen[: len(main)] == main:
            chosen = chosen[len(main) :]
        if not main and rejected is not None:
            while chosen and rejected and chosen[0] == rejected[0] and len(chosen) > 1:
                main, chosen, rejected = [*main, chosen[0]], chosen[1:], rejected[1:]
        elif rejected is not None and main and rejected[: len(main)] == main:
            rejected = rejected[len(main) :]
        main = [*main, *chosen]
    media = media_of(record, path)
    markers = style == "llava" or bool(media.refs)
    extras: dict[str, Any] = {}
    turns: list[Turn] = []
    if (system := record.get("system")) is not None:
        if not isinstance(system, str):
            raise RecordError("bad_type", f"system is {type_name(system)}, not a string")
        used.add("system")
        if system:
            turns.append(Turn("system", _marked(system, media) if markers else (Part("text", system),)))
    turns += _turns(main, fields[0] if fields else "chosen", media, markers, extras)
    rejected_turns = None
    if rejected is not None:
        rejected_turns = _turns(rejected, "rejected", media, markers, extras)
    meta = {k: v for k, v in record.items() if k not in used}
    if extras:
        name = "turn_fields"
        while name in meta:
            name += "_"
        meta[name] = extras
    source = source_of(record, options)
    return Record(row, turns, media.refs, dump(meta) if meta else "{}", source, rejected_turns, key)


def _preference(record: dict[str, Any], used: set[str]) -> tuple[list[Any] | None, list[Any] | None]:
    """The turns in `chosen` and `rejected`; a string is one answer, other types are no preference."""
    field = "rejected" if record.get("rejected") is not None else "rejected_messages"
    rejected = _answers(record.get(field))
    if rejected is None:
        return None, None
    used.add(field)
    chosen = _answers(record.get("chosen"))
    if chosen is not None:
        used.add("chosen")
    return chosen, rejected


def _answers(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value]
    return [{"role": "assistant", "content": value}] if isinstance(value, str) and value else None


def _prompt(record: dict[str, Any], used: set[str]) -> list[Any]:
    prompt = record.get("prompt")
    if isinstance(prompt, (str, list)):
        used.add("prompt")
    if isinstance(prompt, str):
        chosen = record.get("chosen")
        # a conversation in `chosen` begins with the prompt already
        begun = isinstance(chosen, list) and len(chosen) > 1
        return [] if begun else [{"role": "user", "content": prompt}]
    return prompt if isinstance(prompt, list) else []


def _turns(
    messages: Sequence[Any], field: str, media: Media, markers: bool, extras: dict[str, Any]
) -> list[Turn]:
    """The turns of a list of messages; their further fields go to `extras` under field and position."""
    turns = []
    for i, message in enumerate(messages):
        where = f"{field}[{i}]"
        if not isinstance(message, dict):
            raise RecordError("bad_type", f"{where} is {type_name(message)}, not an object")
        role = message.get("from")
        if role is None:
            role = message.get("role")
        if role is not None and not isinstance(role, str):
            raise RecordError("bad_type", f"the role of {where} is {type_name(role)}, not a string")
        name = ROLE_NAMES.get(role) or ROLE_NAMES.get(role.strip().lower()) if role is not None else None
        if name is None:
            raise RecordError("unknown_role", f"{where} has " + ("no role" if role is None else f"{role!r}"))
        content = message.get("value")
        if content is None:
            content = message.get("content")
        if isinstance(content, str):
            parts: Iterable[Part] = _marked(content, media) if markers else (Part("text", content),)
        elif content is None:
            calls = ("value", "content", "tool_calls", "function_call")
            if not any(k in message for k in calls):
                raise RecordError("bad_type", f"{where} has no content")
            parts = ()
        elif isinstance(content, (list, dict)):
            content = [content] if isinstance(content, dict) else content
            parts = [_part(p, f"{where}.content[{k}]", media) for k, p in enumerate(content)]
        else:
            raise RecordError("bad_type", f"the content of {where} is {type_name(content)}, not a string")
        turns.append(Turn(name, tuple(parts)))
        if len(message) > 2:
            more = {k: v for k, v in message.items() if k not in TURN_FIELDS and v is not None}
            if more:
                extras[where] = more
    return turns


def _marked(text: str, media: Media) -> tuple[Part, ...]:
    """A text with its markers turned into parts."""
    if "<" not in text:
        return (Part("text", text),)
    parts, at = [], 0
    for found in MARKER.finditer(text):
        parts.append(Part("text", text[at : found.start()]))
        parts.append(Part(found[1], None, media.next(found[1])))
        at = found.end()
    parts.append(Part("text", text[at:]))
    return tuple(parts)


def _part(part: Any, where: str, media: Media) -> Part:
    """A part of a message: text, or a medium given by itself, by number, or as "the next one"."""
    if isinstance(part, str):
        return Part("text", part)
    if not isinstance(part, dict):
        raise RecordError("bad_type", f"{where} is {type_name(part)}, not an object")
    kind = part.get("type")
    if kind is None:
        kind = next((k for k in (*TEXT_PARTS, *MEDIA_PARTS) if part.get(k) is not None), None)
    if not isinstance(kind, str):
        raise RecordError("bad_type", f"{where} has no type")
    if kind in TEXT_PARTS:
        text = part.get("text") if part.get("text") is not None else part.get(kind)
        if text is not None and not isinstance(text, str):
            raise RecordError("bad_type", f"the text of {where} is {type_name(text)}, not a string")
        return Part("text", text or "")
    if kind not in MEDIA_PARTS:
        raise RecordError("unsupported_part", f"{where} is of type {kind!r}")
    medium = MEDIA_PARTS[kind]
    for name, among in (("media", range(len(media.refs))), ("index", media.by_kind[medium])):
        if isinstance(number := part.get(name), int) and not isinstance(number, bool):
            return Part(medium, None, among[number] if 0 <= number < len(among) else None)
        if number is not None:
            raise RecordError("bad_type", f"{name} of {where} is {type_name(number)}, not a number")
    for name in (kind, medium, f"{medium}_url", *PLACES):
        if (given := part.get(name)) is not None:
            if name in ("data", "bytes", "base64"):
                given = {"bytes": given}
            return Part(medium, None, media.named(medium, given, f"{where}.{name}"))
    return Part(medium, None, media.next(medium))


def source_of(record: dict[str, Any], options: Options) -> str | None:
    """The record's own source: the field the options name, else its `source` if that is a string."""
    field = options.source_field or "source"
    value: Any = record.get(field)
    if value is None and options.source_field:
        value = record
        for step in field.split("."):
            value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, (int, float)) and options.source_field and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and value else None


def check_unicode(record: Record) -> None:
    """Raises RecordError where a text or the source has a lone surrogate.

    A path, a name or a key may have those that stand for undecodable bytes of a file name (PEP 383).
    """
    conversation = [*record.turns, *(record.rejected or ())]
    texts = [p.text for t in conversation for p in t.parts if p.text]
    names = [t for ref in record.refs for t in (ref.name, ref.path, ref.member)]
    for whole, errors in (
        ("\0".join([*texts, record.source or ""]), "strict"),
        ("\0".join([*names, record.key or ""]), "surrogateescape"),
    ):
        if not whole.isascii():
            try:
                whole.encode(errors=errors)
            except UnicodeEncodeError as error:
                around = ascii(whole[max(error.start - 10, 0) : error.start + 10])
                raise RecordError("bad_encoding", f"{error.reason} in {around}") from None


def printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
