"""Records whose fields are named by the user: `--map question=q,answer=text.0,system='Be brief.'`.

A value is a dotted path into the record (numbers index lists) or a literal in single quotes, where two
single quotes stand for one. Markers mean nothing here: what a field says is text.
"""

import re
from typing import Any

from infinity_mm.formats.json_value import ENCODER, dump, type_name
from infinity_mm.formats.media_refs import Media, RecordError, media_of
from infinity_mm.formats.turns import guarded, source_of
from infinity_mm.formats.types import Options, Record, Reject
from infinity_mm.schema import Part, Turn

TARGETS = ("question", "answer", "system", "image", "images", "video", "videos", "text", "source", "id")
MEDIA_TARGETS = ("image", "images", "video", "videos")
CONTENT_TARGETS = ("question", "answer", "text", *MEDIA_TARGETS)
PIECE = re.compile(r"(?:[^,']|'(?:[^']|'')*')*")


def parse_map(text: str) -> tuple[tuple[str, str], ...]:
    """`question=q,answer=a` as pairs. Raises ValueError for an unknown or repeated target."""
    pairs: list[tuple[str, str]] = []
    at = 0
    while at <= len(text):
        found = PIECE.match(text, at)
        piece = found[0].strip() if found else ""
        at = (found.end() if found else at) + 1
        if at <= len(text) and text[at - 1] != ",":
            raise ValueError(f"--map: a single quote is not closed in {text[at - 1 :]!r}: write 'text'")
        if not piece:
            raise ValueError(f"--map {text!r}: an empty piece; write TARGET=FIELD,TARGET=FIELD")
        target, equals, value = (p.strip() for p in piece.partition("="))
        if not equals or not value:
            raise ValueError(f"--map: {piece!r} has no field; write TARGET=FIELD, e.g. question=q")
        if target not in TARGETS:
            raise ValueError(f"--map: {target!r} is no target; the targets are {', '.join(TARGETS)}")
        if target in dict(pairs):
            raise ValueError(f"--map: {target} is given twice")
        if value.startswith("'") and not re.fullmatch(r"'(?:[^']|'')*'", value):
            raise ValueError(f"--map: {value} is not one literal; write 'text', and '' for a quote in it")
        pairs.append((target, value))
    return check_map(tuple(pairs))


def check_map(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The pairs, if they make a conversation. Raises ValueError otherwise."""
    targets = dict(pairs)
    if not any(t in targets for t in CONTENT_TARGETS):
        raise ValueError(f"--map: nothing to read: give at least one of {', '.join(CONTENT_TARGETS)}")
    for a, b in (("text", "answer"), ("image", "images"), ("video", "videos")):
        if a in targets and b in targets:
            raise ValueError(f"--map: {a} and {b} say the same thing: give one of them")
    return pairs


def record_from(
    value: Any, row: int, path: str, options: Options, key: str | None = None, given: Media | None = None
) -> Record | Reject:
    """Read a record through `options.fields`. `given`: media found beside the record, used if none is mapped.

    The user turn has the media, then the question; the assistant turn the answer, or the caption (`text`).
    """
    return guarded(_mapped, value, row, path, options, key, given)


def _mapped(
    record: dict[str, Any], row: int, path: str, options: Options, key: str | None, given: Media | None
) -> Record:
    if not options.fields:
        raise RecordError("no_conversation", f"no --map for the fields {', '.join(record)}"[:300])
    found = {target: _resolve(record, target, field) for target, field in options.fields}
    media = given
    if media is None or any(t in found for t in MEDIA_TARGETS):
        media = media_of({t: found[t] for t in MEDIA_TARGETS if t in found}, path)
    turns = []
    if "system" in found and found["system"] not in (None, ""):
        turns.append(Turn("system", (Part("text", _text(found, "system", options)),)))
    parts = [Part(kind, None, i) for i, kind in enumerate(_kinds(media))]
    if "question" in found:
        parts.append(Part("text", _text(found, "question", options)))
    if parts or not ("answer" in found or "text" in found):
        turns.append(Turn("user", tuple(parts)))
    for target in ("answer", "text"):
        if target in found:
            turns.append(Turn("assistant", (Part("text", _text(found, target, options)),)))
    used = {field for _, field in options.fields}
    meta = {k: v for k, v in record.items() if k not in used}
    if "id" in found:
        meta["id"] = found["id"]
    source = source_of(record, options)
    if "source" in found and found["source"] is not None:
        source = _text(found, "source", options)
    return Record(row, turns, media.refs, dump(meta) if meta else "{}", source, None, key)


def _kinds(media: Media) -> list[str]:
    videos = set(media.by_kind["video"])
    return ["video" if i in videos else "image" for i in range(len(media.refs))]


def _resolve(record: dict[str, Any], target: str, field: str) -> Any:
    if field.startswith("'"):
        return field[1:-1].replace("''", "'")
    if field in record:
        return record[field]
    value: Any = record
    for step in field.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise RecordError(
                "no_conversation", f"no field {field} for {target} among: {', '.join(record)}"[:300]
            )
    return value


def _text(found: dict[str, Any], target: str, options: Options) -> str:
    value = found[target]
    if isinstance(value, str):
        return value
    if value is None:
        raise RecordError("no_conversation", f"{dict(options.fields)[target]}, mapped to {target}, is null")
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    if isinstance(value, (bool, int, float)):
        return ENCODER.encode(value)
    what = "an empty list" if value == [] else type_name(value)
    raise RecordError("bad_type", f"{dict(options.fields)[target]}, mapped to {target}, is {what}, not text")
