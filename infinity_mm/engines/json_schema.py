"""Whether a JSON value fits a JSON schema, of the keywords that replies are asked for with.

The keywords are those of draft 2020-12's validation vocabulary in KEYWORDS, with the meaning it gives them; a
schema that has another is refused, since what is not checked would be taken for true. Time grows with the
value times the alternatives of `anyOf`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: _is_number(v) and v == int(v),
    "number": lambda v: _is_number(v),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
NOTES = frozenset(("title", "description", "default", "examples", "$schema", "$id", "$comment"))
LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("number", lambda v, limit: v >= limit),
    "maximum": ("number", lambda v, limit: v <= limit),
    "exclusiveMinimum": ("number", lambda v, limit: v > limit),
    "exclusiveMaximum": ("number", lambda v, limit: v < limit),
    "minLength": ("string", lambda v, limit: len(v) >= limit),
    "maxLength": ("string", lambda v, limit: len(v) <= limit),
    "pattern": ("string", lambda v, limit: re.search(limit, v) is not None),
    "minItems": ("array", lambda v, limit: len(v) >= limit),
    "maxItems": ("array", lambda v, limit: len(v) <= limit),
}
KEYWORDS = frozenset(
    (*LIMITS, "type", "enum", "const", "anyOf", "properties", "required", "additionalProperties", "items")
)


def check_schema(schema: Any, where: str = "schema") -> None:
    """Raises ValueError for a schema with a keyword or a type that is not known here."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise ValueError(f"{where}: {schema!r} is no JSON schema: give an object, true or false")
    if unknown := sorted(set(schema) - KEYWORDS - NOTES):
        raise ValueError(
            f"{where}: keyword {unknown[0]!r} is not checked here; use {', '.join(sorted(KEYWORDS))}"
        )
    if strange := set(_types(schema)) - set(TYPES):
        raise ValueError(f"{where}: type {min(strange)!r}: give {', '.join(TYPES)}")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}.properties.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            check_schema(schema[key], f"{where}.{key}")
    for place, part in enumerate(schema.get("anyOf", ())):
        check_schema(part, f"{where}.anyOf.{place}")


def mismatch(value: Any, schema: Any, where: str = "reply") -> str | None:
    """What of a value, as `json.loads` gives it, does not fit a checked schema; None where it fits."""
    return next(_mismatches(value, schema, where), None)


def _mismatches(value: Any, schema: Any, where: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{where} may not be there"
        return
    types = _types(schema)
    if types and not any(TYPES[name](value) for name in types):
        yield f"{where} is no {' or '.join(types)}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{where} is none of {list(schema['enum'])}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{where} is not {schema['const']!r}"
    for keyword, (kind, holds) in LIMITS.items():
        if keyword in schema and TYPES[kind](value) and not holds(value, schema[keyword]):
            yield f"{where} breaks {keyword} {schema[keyword]}"
    if "anyOf" in schema and all(mismatch(value, one, where) for one in schema["anyOf"]):
        yield f"{where} fits nothing of anyOf"
    if isinstance(value, dict):
        yield from _of_object(value, schema, where)
    if isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            yield from _mismatches(item, schema["items"], f"{where}[{place}]")


def _of_object(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where} lacks {name!r}"
    known = schema.get("properties", {})
    for name, item in value.items():
        if name in known:
            yield from _mismatches(item, known[name], f"{where}.{name}")
        elif schema.get("additionalProperties", True) is False:
            yield f"{where} has {name!r}, which the schema has not"
        else:
            yield from _mismatches(item, schema.get("additionalProperties", True), f"{where}.{name}")


def _types(schema: Mapping[str, Any]) -> list[str]:
    given = schema.get("type", [])
    return [given] if isinstance(given, str) else list(given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != float("inf")


def _same(value: Any, other: Any) -> bool:
    """JSON's equality: 1 is 1.0, and not true."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
