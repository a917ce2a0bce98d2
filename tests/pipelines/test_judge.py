"""Deciding: three states, any medium, windows, the ledger's words; and properties over made-up data."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import jpeg, ledger, reasons, record, samples

from infinity_mm.manifest import Manifest, publish
from infinity_mm.store import Store
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]
SIZES = {"a.jpg": (8, 8), "b.jpg": (40, 20), "c.jpg": (64, 100)}


def files() -> dict[str, bytes]:
    made = {name: jpeg(i, size) for i, (name, size) in enumerate(SIZES.items())}
    return made | {"cut.jpg": jpeg(9, (50, 50))[:-200]}


def filtered(manifest: Manifest, *where: str, out: str = "x", **options: Any) -> Manifest:
    config = FilterConfig(
        store=manifest.store.url, manifest="raw", out=out, where=list(where), **{"workers": 0, **options}
    )
    return Manifest.open(manifest.store, run_filter(config)["manifest"])


@pytest.fixture
def mixed(ingest: Ingest, dataset: Dataset) -> Manifest:
    records = [
        record("b.jpg", "What is it, please?", loss=1.5, score=3, source="one"),
        record("a.jpg", "What is it now?", loss=2.5, score=1, source="one"),
        record(["b.jpg", "a.jpg"], "Which?", loss=0.5, source="two"),
        record(None, "Say hello.", source="two"),
        record("c.jpg", "And this one?", loss="much", score=2, source="two"),
        record("cut.jpg", "And that?", loss=4.0, score="x", source="two"),
    ]
    return ingest(dataset(records, files()), source_field="source")


def places(manifest: Manifest) -> dict[int, str]:
    return {int(origin.split(":")[1]): reason for origin, reason in reasons(manifest).items()}


DROPS = {5: "undecodable_media"}  # whatever else is asked


@pytest.mark.parametrize(
    ("rule", "drops"),
    [
        ("short_side >= 10", {1: "short_side", 2: "short_side"}),
        ("short_side IS NOT NULL", {3: "short_side"}),  # a text-only sample has no size
        ("loss <= 2", {1: "loss", 4: "loss_failed"}),
        ("loss IS NOT NULL", {3: "loss", 4: "loss_failed"}),
        ("loss <= 2 OR short_side >= 20", {1: "loss", 4: "loss_failed"}),
        ("loss <= 2 AND short_side >= 20", {1: "loss", 2: "loss", 4: "loss_failed"}),
        ("media_count >= 2", {0: "media_count", 1: "media_count", 4: "media_count"}),
        ("source <> 'one'", {0: "source", 1: "source"}),
        ("chars > AVG(chars)", {2: "chars", 3: "chars"}),
        ("loss < MAX(loss) OVER (PARTITION BY source)", {1: "loss", 4: "loss_failed"}),
        ("short_side < MAX(short_side) OVER (PARTITION BY source)", {0: "short_side", 4: "short_side"}),
        ("long_side = MAX(long_side)", {0: "long_side", 1: "long_side", 2: "long_side"}),
        ('"meta.score" >= 2', {1: "score"}),
        ("meta.nothing > 2 OR chars > 0", {}),
    ],
)
def test_what_is_dropped(mixed: Manifest, rule: str, drops: dict[int, str]) -> None:
    if "score" in rule:  # x is no number, so the field is text in one and a number in others
        rule = "meta.score <> '1'"
    found = places(filtered(mixed, rule))
    assert found == {**drops, **DROPS}


def test_a_rule_of_many_samples_sees_all_that_come_in(ingest: Ingest, dataset: Dataset) -> None:
    records = [record(None, f"Question {i}?", "x" * i, loss=float(i)) for i in range(1, 41)]
    manifest = ingest(dataset(records, {}))
    rule = "loss <= QUANTILE_DISC(loss, 0.9)"
    alone = filtered(manifest, rule)
    assert sorted(places(alone)) == [36, 37, 38, 39]
    row = ledger(alone)[0]
    assert (row["value"], row["limit"]) == ("37", "loss <= 36")
    beside = filtered(manifest, rule, "short: answer_chars <= 20", out="y")
    assert sorted(i for i, r in places(beside).items() if r == "loss") == [36, 37, 38, 39]


def cuts(manifest: Manifest, *where: str, **options: Any) -> tuple[list[Any], str]:
    """The limits of the last rule of a dry run, and what is said of all."""
    config = FilterConfig(
        store=manifest.store.url, manifest="raw", dry_run=True, where=list(where), **{"workers": 0, **options}
    )
    result = run_filter(config)
    return result["rules"][-1].get("cuts", []), result["note"]


def test_limits_that_are_worked_out_are_told_by_group(ingest: Ingest, dataset: Dataset) -> None:
    numbers = {"one": 40, "two": 19, "three": 20, "none": 0}
    records = [
        record(None, f"Question {i} of {source}?", source=source, loss=float(i))
        for source, count in numbers.items()
        for i in range(count)
    ]
    records += [record(None, f"{i}?", source="one", loss="no number") for i in range(3)]
    records += [record(None, f"{i} or so?", source="none") for i in range(2)]
    manifest = ingest(dataset(records, {}), source_field="source")
    rule = "loss <= QUANTILE_DISC(loss, 0.95) OVER (PARTITION BY source)"
    found, note = cuts(manifest, rule)
    assert found == [
        {"group": {"source": "none"}, "limit": None, "measured": 0, "over": 0},
        {"group": {"source": "one"}, "limit": "37", "measured": 40, "over": 2},
        {"group": {"source": "three"}, "limit": "18", "measured": 20, "over": 1},
        {"group": {"source": "two"}, "limit": "18", "measured": 19, "over": 0},
    ]
    assert "rule loss, worked out: loss <= 37 for one; 18 for three; 18 for two\n" in note
    made = filtered(manifest, rule)
    assert made.document["rules"][-1]["cuts"] == found
    assert {(r["value"], r["limit"]) for r in ledger(made) if r["reason"] == "loss"} == {
        ("38", "loss <= 37"), ("39", "loss <= 37"), ("19", "loss <= 18")
    }  # fmt: skip
    by_two = rule.replace("source)", "source, language)")
    assert {tuple(cut["group"]) for cut in cuts(manifest, by_two)[0]} == {("source", "language")}
    assert cuts(manifest, "loss <= AVG(loss)")[0][0]["group"] == {}


@pytest.mark.parametrize(
    "rule",
    [
        "loss <= 2",
        "loss <= chars",
        "loss <= QUANTILE_DISC(loss, 0.9) + chars",
        "loss <= 1 + MAX(loss) OVER (PARTITION BY source) - MIN(loss) OVER (PARTITION BY language)",
        "loss <= ROW_NUMBER() OVER (PARTITION BY source ORDER BY chars)",
        "loss < 2 OR loss < AVG(loss)",
    ],
)
def test_other_limits_are_no_cuts(mixed: Manifest, rule: str) -> None:
    assert cuts(mixed, rule)[0] == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=60))
def test_a_quantile_drops_at_most_its_share_and_no_tie(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("ties")
    records = [
        record(None, f"Question {i}?", source=source, loss=float(loss))
        for i, (source, loss) in enumerate(values)
    ]
    (folder / "data.json").write_text(json.dumps(records))
    store = str(folder / "store")
    made = run_ingest(
        IngestConfig(
            inputs=[str(folder / "data.json")], store=store, out="raw", source_field="source", workers=0
        )
    )
    manifest = Manifest.open(Store.open(store), made["manifest"])
    rule = "loss <= QUANTILE_DISC(loss, 0.9) OVER (PARTITION BY source)"
    dropped = set(places(filtered(manifest, rule)))
    for group in {source for source, _ in values}:
        losses = {i: loss for i, (source, loss) in enumerate(values) if source == group}
        gone = [loss for i, loss in losses.items() if i in dropped]
        assert len(gone) * 10 <= len(losses)
        assert not gone or min(gone) > max(loss for i, loss in losses.items() if i not in dropped)


def test_the_ledger_says_value_limit_medium_and_the_other_rules(mixed: Manifest) -> None:
    rows = {
        row["origin"]: row
        for row in ledger(filtered(mixed, "short_side >= 10", "long: chars >= 16 AND words > 1", "loss <= 2"))
    }
    one, two = rows["data.json:1"], rows["data.json:2"]
    assert (one["value"], one["limit"], one["detail"]) == ("8", "short_side >= 10", "a.jpg")
    assert one["others"] == ["loss"]
    assert (two["value"], two["detail"], two["others"]) == ("8", "#2 a.jpg", ["long"])
    text = ledger(filtered(mixed, "long: chars >= 16 AND words > 1", out="y"))[0]
    assert text["value"] == "chars=12 words=2"
    failed = rows["data.json:4"]
    assert (failed["outcome"], failed["value"], failed["limit"]) == ("failed", None, "loss <= 2")
    assert "'much', not a finite number" in failed["detail"]


def test_a_field_of_meta_has_the_type_of_its_values(ingest: Ingest, dataset: Dataset) -> None:
    values: list[Any] = [{"n": 1, "b": True, "t": "10"}, {"n": 2.5, "b": False, "t": "9"}, {"n": None}, {}]
    records = [record(None, f"Question {i}?", meta_of=value) for i, value in enumerate(values)]
    manifest = ingest(dataset(records, {}))
    assert places(filtered(manifest, "meta.meta_of.n > 1")) == {0: "meta_of_n"}
    assert places(filtered(manifest, "meta.meta_of.b", out="b")) == {1: "meta_of_b"}
    assert places(filtered(manifest, "meta.meta_of.t < '5'", out="t")) == {1: "meta_of_t"}
    with pytest.raises(ValueError, match="cannot compare string with numeric"):
        filtered(manifest, "meta.meta_of.n > 'a'", out="no")


def test_a_draw_depends_on_the_seed_and_the_sample_alone(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    half = {s.sample_id for s in samples(filtered(manifest, "draw < 0.5"))}
    more = {s.sample_id for s in samples(filtered(manifest, "draw < 0.7", out="b"))}
    other = {s.sample_id for s in samples(filtered(manifest, "draw < 0.5", out="c", seed=1))}
    assert 8 < len(half) < 32
    assert half < more
    assert half != other


NUMBER = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["bad", "nan"]))
RECORD = st.fixed_dictionaries(
    {
        "images": st.lists(st.sampled_from([*SIZES, "cut.jpg"]), max_size=2),
        "loss": NUMBER,
        "source": st.sampled_from(["p", "q"]),
        "chars": st.integers(1, 9),
    }
)


def _kleene_or(a: bool | None, b: bool | None) -> bool | None:
    return True if a or b else None if a is None or b is None else False


def _above(value: float | None, limit: float) -> bool | None:
    return None if value is None else value > limit


class Truth:
    """The rules once more in plain Python: for each sample pass, broken or failed."""

    def __init__(self, rows: list[dict[str, Any]], limit: int) -> None:
        self.rows, self.limit = rows, limit

    def of(self, rule: str, row: dict[str, Any]) -> str:
        bad = row["loss"] in ("bad", "nan")
        if rule == "undecodable_media":
            return "broken" if "cut.jpg" in row["images"] else "pass"
        if rule == "loss":
            return "failed" if bad else "broken" if _above(row["loss"], self.limit) is False else "pass"
        if rule == "side":
            sides = [min(SIZES.get(name, (50, 50))) for name in row["images"]]
            return "broken" if any(side <= 10 * self.limit for side in sides) else "pass"
        if rule == "light":
            return "failed" if "cut.jpg" in row["images"] else "pass"
        if rule == "either":
            sides = [min(SIZES.get(name, (50, 50))) for name in row["images"]] or [None]
            found = [_kleene_or(_above(row["loss"] if not bad else None, 0), _above(s, 15)) for s in sides]
            return "failed" if bad else "broken" if False in found else "pass"
        assert rule == "top"
        same = [
            r["loss"] for r in self.rows
            if r["source"] == row["source"] and isinstance(r["loss"], int)
        ]  # fmt: skip
        return (
            "failed" if bad else "broken" if row["loss"] is not None and row["loss"] == max(same) else "pass"
        )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(RECORD, min_size=1, max_size=12),
    order=st.permutations(["loss", "side", "light", "either", "top"]),
    limit=st.integers(-2, 2),
)
def test_properties(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], order: list[str], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("made")
    for name, data in files().items():
        (folder / name).write_bytes(data)
    made = []
    for i, row in enumerate(rows):
        more = {"source": row["source"]}
        if row["loss"] is not None:
            more["loss"] = float("nan") if row["loss"] == "nan" else row["loss"]
        made.append(record(row["images"] or None, f"{i:03}" + "x" * row["chars"], **more))
    (folder / "data.json").write_text(json.dumps(made))
    url = str(folder / "store")
    run_ingest(
        IngestConfig(
            inputs=[str(folder / "data.json")], store=url, out="raw", workers=0, source_field="source"
        )
    )
    where = {
        "loss": f"loss > {limit}",
        "side": f"short_side > {10 * limit}",
        "light": "brightness >= 0",
        "either": "loss > 0 OR short_side > 15",
        "top": "loss < MAX(loss) OVER (PARTITION BY source)",
    }
    base = {"store": url, "manifest": "raw", "workers": 0, "where": [f"{n}: {where[n]}" for n in order]}
    dry = run_filter(FilterConfig(**base, dry_run=True))
    done = run_filter(FilterConfig(**base, out="kept"))
    assert done["in"] == len(rows) == done["kept"] + done["dropped"] + done["failed"]
    shared = ("in", "kept", "dropped", "failed", "reasons", "rules")
    assert {k: dry[k] for k in shared} == {k: done[k] for k in shared}

    truth = Truth(rows, limit)
    manifest = Manifest.open(_store(url), done["manifest"])
    found = {int(row["origin"].split(":")[1]): row for row in ledger(manifest)}
    alone = dict.fromkeys(order, 0)
    for i, row in enumerate(rows):
        states = {name: truth.of(name, row) for name in ["undecodable_media", *order]}
        stopped = [name for name, state in states.items() if state != "pass"]
        assert (i in found) == bool(stopped), (i, states)
        for name in order:
            alone[name] += states[name] == "broken"
        if stopped:
            outcome = "failed" if states[stopped[0]] == "failed" else "dropped"
            assert found[i]["outcome"] == outcome
            if outcome == "dropped":
                assert found[i]["reason"] == stopped[0]
            others = [n for n in states if states[n] == "broken" and n != stopped[0]]
            assert found[i]["others"] == others
    assert {r["name"]: r["alone"] for r in done["rules"] if r["name"] in alone} == alone
    dropped = Counter(row["reason"] for row in found.values() if row["outcome"] == "dropped")
    assert {r["name"]: r["dropped"] for r in done["rules"] if r["dropped"]} == dropped
    assert sum(r["failed"] for r in done["rules"]) == done["failed"]

    again = run_filter(FilterConfig(**{**base, "where": base["where"][::-1]}, out="other"))
    assert again["digest"] == done["digest"]  # the order of rules changes reasons, never what is kept


def _store(url: str) -> Any:
    from infinity_mm.store import Store

    return Store.open(url)


def test_many_shards_decide_as_one(ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window over all samples, whichever shards they lie in."""
    rules = ("chars <= QUANTILE_DISC(chars, 0.5)", "bytes >= AVG(bytes)")
    one = filtered(ingest(plain, store="a"), *rules)
    monkeypatch.setattr("infinity_mm.sample_shards.SHARD_ROWS", 7)
    many = filtered(ingest(plain, store="b"), *rules)
    assert len(many.shards) > 3
    assert many.digest == one.digest
    assert np.array_equal(sorted(reasons(many).items()), sorted(reasons(one).items()))


def test_a_field_of_meta_is_judged_by_the_samples_of_the_manifest(ingest: Ingest, dataset: Dataset) -> None:
    """What lies in the same shard and is not selected must not decide its type."""
    records = [record(None, f"{i}?", score=s, group=g) for i, (s, g) in enumerate(
        [(5, "n"), (2, "n"), (8, "n"), ("high", "t"), ("low", "t")]
    )]  # fmt: skip
    manifest = ingest(dataset(records, {}))
    filtered(manifest, "meta.group = 'n'", out="numbers")
    config = FilterConfig(
        store=manifest.store.url, manifest="numbers", out="high", where=["meta.score >= 3"], workers=0
    )
    assert run_filter(config)["samples"] == 2


def test_whole_numbers_of_meta_stay_whole(ingest: Ingest, dataset: Dataset) -> None:
    records = [record(None, f"{i}?", number=2**53 + i) for i in range(3)]
    made = filtered(ingest(dataset(records, {})), f"meta.number = {2**53 + 1}")
    assert set(places(made)) == {0, 2}


@pytest.mark.parametrize(
    "rule",
    [
        "meta.no LIKE 'a%'", "LENGTH(meta.no) > 3", "ABS(meta.no) > 3", "meta.no", "meta.no IN ('a')",
        "meta.no <= QUANTILE_DISC(meta.no, 0.9)", "meta.no > 3 OR meta.nor < 2",
    ],
)  # fmt: skip
def test_a_field_that_no_sample_has_does_not_apply(ingest: Ingest, plain: Path, rule: str) -> None:
    assert filtered(ingest(plain), rule).samples == 39


def test_arithmetic_neither_wraps_nor_hides(ingest: Ingest, dataset: Dataset) -> None:
    manifest = ingest(dataset([record("a.jpg"), record("b.jpg"), record(None)], files()))
    assert filtered(manifest, "turns * 2000000000 > 0").samples == 3
    assert filtered(manifest, "orientation * 200 > 100", out="b").samples == 3
    assert filtered(manifest, "urls / urls >= 0.5", "urls / urls < 0.5", out="c").samples == 3
    with pytest.raises(ValueError, match=r"rule language: .* can't be worked out: .*TRY_CAST gives null"):
        filtered(manifest, "CAST(language AS INT) > 3", out="d")


def test_an_average_of_pictures_does_not_judge_a_sample_without_one(mixed: Manifest) -> None:
    rule = "AVG(width) OVER (PARTITION BY source) < 1"
    assert set(places(filtered(mixed, rule))) == {0, 1, 2, 4, 5}


def test_a_damaged_sidecar_is_never_decided_from(ingest: Ingest, plain: Path) -> None:
    manifest = ingest(plain)
    filtered(manifest, "chars > 1")
    [name] = manifest.store.names("sidecars/text")
    path = Path(manifest.store.path(name))
    group = pq.ParquetFile(path).metadata.row_group(0)
    column = next(c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema == "chars")
    data = bytearray(path.read_bytes())
    data[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is damaged: .*; delete it, and it is measured again"):
        filtered(manifest, "chars > 2", out="y")
    path.unlink()
    assert filtered(manifest, "chars > 2", out="y").samples == 39


def test_forgetting_during_a_filter_changes_nothing_of_it(
    ingest: Ingest, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infinity_mm.withdraw import forget
    from pipelines.judge import Judge

    manifest = ingest(plain)
    doomed = samples(manifest)[0].sample_id.hex()
    decide = Judge.decide

    def late(self: Judge, *args: Any) -> Any:
        forget(manifest.store, doomed, "now")
        return decide(self, *args)

    monkeypatch.setattr(Judge, "decide", late)
    assert filtered(manifest, "chars <= MAX(chars)").samples == 39


def test_media_in_many_shards_in_another_order_than_samples(ingest: Ingest, dataset: Dataset) -> None:
    made = {f"{i}.jpg": jpeg(i, (20 + i, 30)) for i in range(30)}
    order = [7 * i % 30 for i in range(30)]
    first = [record(f"{i}.jpg", f"One {i}?") for i in range(30)]
    again = [record([f"{i}.jpg", f"{(i + 11) % 30}.jpg"], f"Two {i}?") for i in order]
    manifest = ingest(dataset([*first, *again], made), shard_bytes=4000)
    assert len(list(manifest.library().shards())) > 3
    found = places(filtered(manifest, "width < 45"))
    pairs = [*([i] for i in range(30)), *([i, (i + 11) % 30] for i in order)]
    assert set(found) == {place for place, pair in enumerate(pairs) if max(pair) >= 25}


def test_of_several_pictures_the_first_that_breaks_decides(ingest: Ingest, dataset: Dataset) -> None:
    records = [
        record(["b.jpg", "c.jpg", "a.jpg"], "One?"),
        record(["cut.jpg", "c.jpg"], "Two?"),
        record(["b.jpg", "cut.jpg"], "Three?"),
    ]
    manifest = ingest(dataset(records, files()))
    by_height = filtered(manifest, "height < 20", allow=["undecodable_media"])
    rows = {row["origin"]: row for row in ledger(by_height)}
    assert (rows["data.json:0"]["value"], rows["data.json:0"]["detail"]) == ("20", "#1 b.jpg")
    # One breaks the rule and one failed: it is broken, whatever the other's value would have been.
    bright = filtered(manifest, "brightness < 0", out="y", allow=["undecodable_media"])
    assert {row["outcome"] for row in ledger(bright)} == {"dropped"}
    there = filtered(manifest, "brightness IS NOT NULL", out="z", allow=["undecodable_media"])
    assert places(there) == {1: "truncated", 2: "truncated"}


def test_a_medium_that_no_index_has_fails_what_reads_it(ingest: Ingest, plain: Path) -> None:
    raw = ingest(plain)
    document = raw.document
    publish(
        raw.store, stage="ingest", config={}, shards=raw.shards, media=[], ledger=document["ledger"],
        counts=document["counts"], sources=document["sources"], name="bare",
    )  # fmt: skip
    config = FilterConfig(
        store=raw.store.url, manifest="bare", out="x", where=["width > 1"], workers=0,
        allow=["undecodable_media", "wrong_kind", "wrong_format"],
    )  # fmt: skip
    result = run_filter(config)
    assert (result["reasons"], result["kept"]) == ({"missing_media": 35}, 4)
