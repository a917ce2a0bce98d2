import json
from typing import Any

import pyarrow as pa
import pytest
from looks import asked, values

from pipelines.measures.arrived import GIVEN_PHASH, LOSS, TAGS, arrived
from pipelines.measures.sample_look import SampleLook


def with_meta(**meta: Any) -> SampleLook:
    return asked("What?", "That.", meta=meta)


def test_what_did_not_arrive_is_not_applicable() -> None:
    for family in (LOSS, TAGS, GIVEN_PHASH, arrived(["clip_score"])):
        assert set(values(family, with_meta()).values()) == {None}


def test_loss() -> None:
    assert values(LOSS, with_meta(qw2vl_loss=1.25, loss=3))["loss"] == 1.25
    assert values(LOSS, with_meta(loss=0))["loss"] == 0
    assert values(LOSS, with_meta(qw2vl_loss=None, loss=2))["loss"] == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "1.5", True, [1.0]])
def test_a_loss_that_is_none_fails(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"qw2vl_loss is .* not a finite number"):
        values(LOSS, with_meta(qw2vl_loss=bad))


def test_the_released_scorers_zero_is_a_failure() -> None:
    with pytest.raises(ValueError, match="qw2vl_loss is 0, which the released scorer writes where it failed"):
        values(LOSS, with_meta(qw2vl_loss=0.0))


def test_tags() -> None:
    release = {"ram++_tags": ["dog", "grass", "run"], "ram++_tags_score": [0.7, 0.9, 0.9]}
    got = values(TAGS, with_meta(**release))
    expected = {
        "tags": release["ram++_tags"],
        "tag_scores": [0.7, 0.9, 0.9],
        "tag_count": 3,
        "top_tag": "grass",
    }
    assert got == expected
    assert values(TAGS, with_meta(tags=["a"], score=[1]))["top_tag"] == "a"
    assert values(TAGS, with_meta(tags=["a", "b"])) == {
        "tags": ["a", "b"], "tag_scores": None, "tag_count": 2, "top_tag": None,
    }  # fmt: skip
    assert values(TAGS, with_meta(tags=[], tags_score=[]))["tag_count"] == 0


@pytest.mark.parametrize(
    "meta",
    [{"tags": "a, b"}, {"tags": [1]}, {"tags": ["a"], "score": [1, 2]}, {"tags": ["a"], "score": ["x"]}],
)
def test_tags_that_are_none_fail(meta: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"tags is not a list of texts|score is"):
        values(TAGS, with_meta(**meta))


def test_given_phash() -> None:
    assert values(GIVEN_PHASH, with_meta(phash=255))["given_phash"] == "00000000000000ff"
    many = values(GIVEN_PHASH, with_meta(phash=[(1 << 64) - 1, 0]))["given_phash"]
    assert many == "ffffffffffffffff 0000000000000000"
    assert values(GIVEN_PHASH, with_meta(phash=[]))["given_phash"] is None
    for bad in (-1, 1 << 64, "ff", 1.0, True, [None]):
        with pytest.raises(ValueError, match="is not an unsigned integer of 64 bits"):
            values(GIVEN_PHASH, with_meta(phash=bad))


def test_any_other_field() -> None:
    meta = {
        "clip_score": 0.5,
        "a": {"b": {"c": "红"}, "d": None},
        "e.f": 1,
        "g": {"h.i": 2, "h": 3},
        "list": [1, "x"],
    }
    fields = ["clip_score", "a.b.c", "a.b", "a.d", "a.x", "e.f", "g.h.i", "clip_score.x", "list"]
    family = arrived(fields)
    assert set(family.schema().types[1:-1]) == {pa.large_string()}
    assert values(family, with_meta(**meta), {"fields": fields}) == {
        "meta.clip_score": "0.5",
        "meta.a.b.c": '"红"',
        "meta.a.b": '{"c":"红"}',
        "meta.a.d": None,
        "meta.a.x": None,
        "meta.e.f": "1",
        "meta.g.h.i": "2",
        "meta.clip_score.x": None,
        "meta.list": '[1,"x"]',
    }


def test_a_number_that_is_no_json_fails() -> None:
    with pytest.raises(ValueError, match="JSON"):
        values(arrived(["x"]), with_meta(x=float("nan")))


def test_values_fit_their_columns() -> None:
    seen = with_meta(
        **json.loads('{"loss": 1, "tags": ["a"], "score": [0.5], "phash": [18446744073709551615]}')
    )
    for family in (LOSS, TAGS, GIVEN_PHASH):
        for (name, measure), value in zip(family.measures.items(), family.open({})(seen), strict=True):
            assert pa.array([value], measure.type).to_pylist() == [value], name
