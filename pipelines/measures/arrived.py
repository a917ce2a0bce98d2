"""Measures that arrive with the data: a loss, tags and a perceptual hash, and any other field of meta.

The Infinity-MM release brings `qw2vl_loss`, `ram++_tags` with `ram++_tags_score`, and `phash`; plainer names
count where those are absent. A field that is there and is not what it should be fails the family's row.
"""

import json
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from infinity_mm.sidecars import Family, Measure
from pipelines.measures.sample_look import SampleLook

RELEASE = "Infinity-MM release"


def loss(look: SampleLook) -> Sequence[Any]:
    """The measures of LOSS. Raises ValueError for what is no finite number, and for 0 in qw2vl_loss."""
    value = look.meta.get("qw2vl_loss")
    if value is None:
        value, name = look.meta.get("loss"), "loss"
    else:
        name = "qw2vl_loss"
    if value is None:
        return (None,)
    number = _number(value, name)
    if number == 0 and name == "qw2vl_loss":
        raise ValueError("qw2vl_loss is 0, which the released scorer writes where it failed")
    return (number,)


def tags(look: SampleLook) -> Sequence[Any]:
    """The measures of TAGS. Raises ValueError for tags that are no texts, or scores that do not fit them."""
    name, scores_name = "ram++_tags", "ram++_tags_score"
    if look.meta.get(name) is None:
        name, scores_name = "tags", "score" if look.meta.get("tags_score") is None else "tags_score"
    found = look.meta.get(name)
    if found is None:
        return None, None, None, None
    if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
        raise ValueError(f"{name} is not a list of texts")
    scores = look.meta.get(scores_name)
    if scores is None:
        return found, None, len(found), None
    if not isinstance(scores, list) or len(scores) != len(found):
        raise ValueError(f"{scores_name} is not a list of {len(found)} numbers, one a tag")
    numbers = [_number(score, scores_name) for score in scores]
    top = found[numbers.index(max(numbers))] if found else None
    return found, numbers, len(found), top


def given_phash(look: SampleLook) -> Sequence[Any]:
    """The measures of GIVEN_PHASH. Raises ValueError for what is no 64-bit unsigned integer, nor some."""
    value = look.meta.get("phash")
    if value is None:
        return (None,)
    hashes = value if isinstance(value, list) else [value]
    for each in hashes:
        if not isinstance(each, int) or isinstance(each, bool) or not 0 <= each < 1 << 64:
            raise ValueError(f"phash {each!r} is not an unsigned integer of 64 bits")
    return (" ".join(f"{each:016x}" for each in hashes) or None,)


def arrived(fields: Sequence[str]) -> Family:
    """A family with a measure `meta.FIELD` for each dotted path into meta: the JSON text of what is there."""
    measures = {
        f"meta.{name}": Measure(pa.large_string(), "JSON", f"the field {name} of meta, as it came")
        for name in fields
    }
    return Family("arrived", "samples", 1, measures, lambda settings: partial(_fields, fields=tuple(fields)))


def _fields(look: SampleLook, fields: Sequence[str]) -> Sequence[Any]:
    found = [_at(look.meta, name) for name in fields]
    return [None if value is None else _json(value) for value in found]


def _at(meta: Any, path: str) -> Any:
    """The value at a dotted path, or None; a field whose name has a dot in it is found too."""
    if not isinstance(meta, dict):
        return None
    if path in meta:
        return meta[path]
    head, _, rest = path.partition(".")
    while rest:
        if head in meta and (found := _at(meta[head], rest)) is not None:
            return found
        more, _, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None


def _json(value: Any) -> str:
    """Raises ValueError for NaN and infinities, which are no JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a finite number")
    return float(value)


LOSS = Family(
    "loss",
    "samples",
    1,
    {"loss": Measure(pa.float64(), "nats a token", "loss the sample came with (qw2vl_loss, loss)", RELEASE)},
    lambda settings: loss,
)
TAGS = Family(
    "tags",
    "samples",
    1,
    {
        "tags": Measure(pa.list_(pa.string()), "", "tags the sample came with (ram++_tags, tags)", RELEASE),
        "tag_scores": Measure(pa.list_(pa.float32()), "", "their scores, in the same order", RELEASE),
        "tag_count": Measure(pa.int32(), "tags", "how many they are"),
        "top_tag": Measure(pa.string(), "", "the tag with the highest score; the first of equals"),
    },
    lambda settings: tags,
)
# Text, not numbers: half of all 64-bit hashes are past what SQL's BIGINT holds, nearly all past what JSON's
# doubles hold, and one column can have the one hash of a picture and the several of a sample with more.
GIVEN_PHASH = Family(
    "given_phash",
    "samples",
    1,
    {
        "given_phash": Measure(
            pa.string(), "16 hex digits", "perceptual hash it came with; several: a space between", RELEASE
        )
    },
    lambda settings: given_phash,
)
