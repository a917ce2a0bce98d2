"""The structural filter: each rule drops what it says, names it, and nothing else goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import jpeg, ledger, reasons, record, samples
from pydantic import ValidationError

import pipelines.measure
from infinity_mm.manifest import Manifest
from infinity_mm.schema import Part, Sample, Turn
from infinity_mm.verify import verify
from infinity_mm.withdraw import forget
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.measures.registry import FAMILIES
from pipelines.measures.sample_look import SampleLook
from pipelines.measures.structure import order_fault, structure
from pipelines.rules import BUILT_IN

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


def filtered(manifest: Manifest, out: str = "sound", **options: Any) -> Manifest:
    config = FilterConfig(store=manifest.store.url, manifest="raw", out=out, **{"workers": 0, **options})
    return Manifest.open(manifest.store, run_filter(config)["manifest"])


def turns(*roles: str) -> tuple[Turn, ...]:
    return tuple(Turn(role, (Part("text", "x"),)) for role in roles)


@pytest.mark.parametrize(
    ("roles", "fault"),
    [
        (("user", "assistant"), None),
        (("system", "user", "assistant", "user", "assistant"), None),
        (("user", "assistant", "tool", "assistant"), None),
        ((), None),
        (("assistant",), "turn 0: assistant after the start"),
        (("user", "user", "assistant"), "turn 1: user after user"),
        (("user", "assistant", "assistant"), "turn 2: assistant after assistant"),
        (("user", "system", "assistant"), "turn 1: system after user"),
        (("user", "tool"), "turn 1: tool after user"),
    ],
)
def test_order_of_roles(roles: tuple[str, ...], fault: str | None) -> None:
    assert order_fault(turns(*roles)) == fault


def test_structure_measures() -> None:
    sample = Sample(
        bytes(16),
        (
            Turn("user", (Part("image", None, 0), Part("text", " \n"))),
            Turn("assistant", (Part("text", " \n"),)),
            Turn("user", (Part("video"),)),
        ),
        (bytes(16), bytes(16)),
        "s", "{}", None, ("a", "b"), "o",
    )  # fmt: skip
    measures = dict(zip(FAMILIES["structure"].measures, structure(SampleLook(sample)), strict=True))
    assert measures == {
        "turns": 3, "empty_turns": 1, "role_fault": "none", "answers": 1, "markers_without_media": 1,
        "media_without_marker": 1, "media_count": 2, "media_shown_as": "i-", "last_role": "user",
    }  # fmt: skip


def conversation(*turns: tuple[str, str], image: Any = "good.jpg") -> dict[str, Any]:
    return {
        **({"image": image} if image else {}),
        "conversations": [{"from": f, "value": v} for f, v in turns],
    }


@pytest.fixture
def broken(dataset: Dataset) -> Path:
    good = jpeg(0)
    files = {
        "good.jpg": good,
        "cut.jpg": good[:-200],
        "page.jpg": b"<!DOCTYPE html><title>404</title>",
        "really_png.jpg": jpeg(1, format="PNG"),
    }
    marker = "<image>\n"
    records = [
        record("good.jpg"),
        conversation(("human", marker + "a"), ("human", "b"), ("gpt", "c")),
        conversation(("human", marker + "a"), ("gpt", "  ")),
        conversation(("human", marker + "a")),
        conversation(("human", marker + marker + "a"), ("gpt", "c")),
        conversation(("human", "a"), ("gpt", "c")),
        record("cut.jpg"),
        record("page.jpg"),
        record("really_png.jpg"),
        record(None, "<image> is a tag?"),
        record(["good.jpg", "cut.jpg"]),
        conversation(("gpt", ""), ("gpt", ""), image="cut.jpg"),
        record(None),
        conversation(),
    ]
    return dataset(records, files)


def test_each_rule_drops_its_own(ingest: Ingest, broken: Path) -> None:
    manifest = filtered(ingest(broken))
    assert reasons(manifest) == {
        "data.json:1": "role_order",
        "data.json:2": "empty_turn",
        "data.json:3": "no_answer",
        "data.json:4": "marker_without_media",
        "data.json:5": "media_without_marker",
        "data.json:6": "undecodable_media",
        "data.json:7": "undecodable_media",
        "data.json:8": "wrong_format",
        "data.json:9": "marker_without_media",
        "data.json:10": "undecodable_media",
        "data.json:11": "role_order",
        "data.json:13": "no_turns",
    }
    assert [s.origin for s in samples(manifest)] == ["data.json:0", "data.json:12"]
    rows = {row["origin"]: row for row in ledger(manifest)}
    assert (rows["data.json:6"]["value"], rows["data.json:7"]["value"]) == ("truncated", "html")
    assert rows["data.json:10"]["detail"].startswith("#2 cut.jpg: ")
    assert (rows["data.json:8"]["value"], rows["data.json:8"]["detail"]) == ("png", "really_png.jpg")
    assert rows["data.json:1"]["value"] == "turn 1: user after user"
    assert rows["data.json:11"]["others"] == ["empty_turn", "media_without_marker", "undecodable_media"]
    assert verify(manifest.store, "sound", media=False)["ok"]


@pytest.mark.parametrize("rule", [r for r in BUILT_IN if r not in ("wrong_kind", "no_turns")])
def test_a_rule_that_is_allowed_drops_nothing(ingest: Ingest, broken: Path, rule: str) -> None:
    manifest = filtered(ingest(broken), allow=[rule])
    assert rule not in reasons(manifest).values()
    assert all(rule not in row["others"] for row in ledger(manifest))


def test_workers_change_nothing(ingest: Ingest, broken: Path) -> None:
    one, two = ingest(broken, store="a"), ingest(broken, store="b")
    assert filtered(one).file == filtered(two, workers=2).file


def test_a_rule_is_decided_again_without_a_decode(
    ingest: Ingest, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ingest(broken)
    filtered(manifest)

    def no_measuring(*args: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(pipelines.measure, "open_step", no_measuring)
    again = filtered(manifest, out="lenient", allow=["wrong_format"])
    assert "wrong_format" not in reasons(again).values()


def test_media_that_went_away_fail_and_come_back(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain, mode="reference")
    hidden = plain.parent / "images/3.jpg"
    hidden.rename(plain.parent / "hidden")
    without = filtered(manifest)
    assert without.document["counts"]["failed"] == 2
    assert set(reasons(without).values()) == {"missing_media"}
    (plain.parent / "hidden").rename(hidden)
    assert filtered(manifest, out="all").document["counts"]["failed"] == 0


def test_what_is_withdrawn_is_dropped_by_name(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    first = samples(manifest)[0]
    forget(manifest.store, first.media[0].hex(), "asked to")
    rows = ledger(filtered(manifest))
    assert [row["reason"] for row in rows] == ["withdrawn"] * 2
    assert rows[0]["sample_id"] == first.sample_id


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ValidationError, match="no rule 'blur': the rules are no_turns"):
        FilterConfig(manifest="raw", out="x", allow=["blur"])
