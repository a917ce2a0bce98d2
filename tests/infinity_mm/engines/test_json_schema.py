"""JSON values against schemas."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity_mm.engines.json_schema import check_schema, mismatch

QUESTION = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 3, "maxLength": 20},
        "score": {"type": "integer", "minimum": 1, "maximum": 10},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2},
        "more": {
            "anyOf": [{"type": "null"}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]
        },
    },
    "required": ["question", "score"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"score": 3.0}, None),
        ({"tags": ["a", "b"], "more": None}, None),
        ({"more": 0.5}, None),
        ({"score": 11}, "maximum"),
        ({"score": 0}, "minimum"),
        ({"score": 2.5}, "integer"),
        ({"score": True}, "integer"),
        ({"score": "3"}, "integer"),
        ({"question": "x"}, "minLength"),
        ({"question": "x" * 21}, "maxLength"),
        ({"tags": []}, "minItems"),
        ({"tags": ["a"] * 3}, "maxItems"),
        ({"tags": ["c"]}, r"tags\[0\]"),
        ({"more": 1}, "anyOf"),
        ({"extra": 1}, "extra"),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any], said: str | None) -> None:
    check_schema(QUESTION)
    found = mismatch({"question": "what?", "score": 3, **changes}, QUESTION)
    if said is None:
        assert found is None
    else:
        assert found is not None
        with pytest.raises(ValueError, match=said):
            raise ValueError(found)


@pytest.mark.parametrize(
    ("value", "schema", "fits"),
    [
        ({"question": "what?"}, QUESTION, False),
        ([], QUESTION, False),
        ("a1", {"pattern": "^a"}, True),
        ("ba", {"pattern": "^a"}, False),
        (5, {"pattern": "^a"}, True),
        (1, {"const": 1.0}, True),
        (True, {"const": 1}, False),
        (False, {"enum": [0]}, False),
        (None, {"type": ["string", "null"]}, True),
        ({"x": 1}, {"additionalProperties": {"type": "string"}}, False),
        ([1], {"items": False}, False),
        ([], {"items": False}, True),
        (float("inf"), {"type": "number"}, False),
    ],
)
def test_keywords_mean_what_json_schema_says(value: Any, schema: Any, fits: bool) -> None:
    check_schema(schema)
    assert (mismatch(value, schema) is None) == fits


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"items": {"oneOf": []}}}}, r"schema.properties.a.items: keyword 'oneOf'"),
        ({"anyOf": [{"type": "int"}]}, "anyOf.0: type 'int'"),
        ({"items": 3}, "3 is no JSON schema"),
    ],
)
def test_a_schema_that_would_not_be_checked_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_schema(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def of(value: Any) -> Any:
    """A schema that a value fits, and few others."""
    if isinstance(value, dict):
        parts = {name: of(inner) for name, inner in value.items()}
        return {"type": "object", "properties": parts, "required": list(value), "additionalProperties": False}
    if isinstance(value, list):
        return {"type": "array", "items": {"anyOf": [of(one) for one in value]}} if value else {"maxItems": 0}
    return {"const": value}


@settings(max_examples=40)
@given(JSON, JSON)
def test_a_value_fits_the_schema_made_of_it(value: Any, other: Any) -> None:
    check_schema(of(value))
    assert mismatch(value, of(value)) is None
    if isinstance(value, dict):
        assert mismatch({**value, "other": other}, of(value)) is not None or "other" in value
        assert all(mismatch({k: v for k, v in value.items() if k != one}, of(value)) for one in value)
