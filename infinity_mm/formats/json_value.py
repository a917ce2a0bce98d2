"""One JSON value from bytes or text, with what is wrong with it as a value instead of an exception."""

import json
from typing import Any, NamedTuple

DECODER = json.JSONDecoder()
ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)
ASCII_ENCODER = json.JSONEncoder(default=str)


class Bad(NamedTuple):
    """Why a value cannot be had: a reason code of `types.REASONS` and what was found."""

    reason: str
    detail: str


def parse(data: bytes) -> Any:
    """The value, or a `Bad`; never raises. NaN and Infinity are taken, a repeated key's last value counts."""
    try:
        return parse_text(data.decode())
    except UnicodeDecodeError as error:
        return Bad("malformed_json", f"not UTF-8: {error.reason} at byte {error.start}")


def parse_text(text: str) -> Any:
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return malformed(error)


def malformed(error: Exception, at: int = 0) -> Bad:
    """`at`: where in the parsed text the value began, so that the position counts from there."""
    if isinstance(error, RecursionError):
        return Bad("malformed_json", "nested too deeply")
    if isinstance(error, json.JSONDecodeError):
        return Bad("malformed_json", f"{error.msg} at character {error.pos - at}")
    return Bad("malformed_json", f"{error}"[:200])


def dump(value: Any) -> str:
    """Compact enough, readable JSON text that is valid Unicode: a lone surrogate stays an escape.

    Raises RecursionError for a value nested too deeply.
    """
    text = ENCODER.encode(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return ASCII_ENCODER.encode(value)
    return text


def type_name(value: Any) -> str:
    """The JSON name of a value's type, for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number"
    return names.get(type(value), type(value).__name__)
