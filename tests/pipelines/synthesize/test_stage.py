"""`imm synthesize` end to end on scenes, by an engine that says good and bad things."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killed_synthesis import FLUSH
from talking import Scripted

from infinity_mm.cli import main
from infinity_mm.engines.base import ENGINES, Answer, EngineError, Picture, Reply, Request
from infinity_mm.manifest import Manifest
from infinity_mm.schema import samples_from
from infinity_mm.store import Store
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.pairs import Image, Kind, Pair
from pipelines.synthesize.stage import loss_limits, replay, run, too_high
from pipelines.synthesize.steps import STEPS, Asking

COUNT = 24
ROOT = Path(__file__).parents[3]


class Place:
    """A store with a manifest `raw` of pictures in English and Chinese."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder / "store")
        self.store = Store.open(self.url)

    def run(self, engine: Scripted, out: str = "made", **settings: Any) -> dict[str, Any]:
        ENGINES["scripted"] = lambda rest, device, options: engine
        given = {"prompts": "scenes", "types": "scenes", "engine": "scripted", "blind": "gray", **settings}
        return run(SynthesizeConfig(store=self.url, manifest="raw", out=out, replace=True, **given))

    def manifest(self, name: str = "made") -> Manifest:
        return Manifest.open(self.store, name)

    def ledger(self, name: str = "made") -> list[dict[str, Any]]:
        return pq.read_table(self.store.path(self.manifest(name).document["ledger"]["file"])).to_pylist()

    def sidecar(self, family: str, name: str = "made") -> list[dict[str, Any]]:
        files = [e["file"] for e in self.manifest(name).document["sidecars"] if e["family"] == family]
        return [row for file in files for row in pq.read_table(self.store.path(file)).to_pylist()]

    def made(self, name: str = "made") -> list[Any]:
        manifest = self.manifest(name)
        tables = [manifest.table(number) for number in range(len(manifest.shards))]
        return [s for table in tables for s in samples_from(table) if s.source == "synthesized"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("synthesize")
    drawn = ["--count", str(COUNT), "--video-share", "0.1", "--chinese-share", "0.3", "--seed", "3"]
    assert main(["scenes", "--out", str(folder / "scenes"), *drawn]) == 0
    ingest = [
        "ingest",
        str(folder / "scenes" / "data.json"),
        "--out",
        "raw",
        "--store",
        str(folder / "store"),
    ]
    assert main([*ingest, "--source", "scenes", "--licence", "CC0-1.0", "--workers", "0"]) == 0
    return Place(folder)


@pytest.fixture(autouse=True)
def registry() -> Any:
    yield
    ENGINES.pop("scripted", None)


def account(result: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(result["counts"][k] for k in ("in", "kept", "dropped", "failed", "made"))


def test_every_pair_is_in_the_ledger_once(place: Place) -> None:
    result = place.run(Scripted(bad=0.3), questions=4)
    pictures, rows = result["pictures"], place.ledger()
    assert len(rows) == pictures * 5  # a caption and four questions
    document = place.manifest().document
    came, kept, dropped, failed, made = (
        document["counts"][k] for k in ("in", "kept", "dropped", "failed", "made")
    )
    assert came == kept + dropped + failed and dropped + failed == len(rows)
    assert document["samples"] == kept + made == place.manifest("raw").samples + len(place.made())
    merged = [row for row in rows if row["reason"] == "merged"]
    assert len(merged) == sum(len(s.turns) // 2 for s in place.made()) > 5
    assert {row["child"] for row in merged} == {s.sample_id for s in place.made()}
    reasons = Counter(row["reason"] for row in rows)
    assert {"empty_reply", "bad_picture", "repetition", "cut_off", "other_language", "several_lines"} <= set(
        reasons
    )
    assert {"not_relevant", "disagrees"} <= set(reasons)
    for row in rows:
        assert row["outcome"] == ("failed" if row["reason"] in ("empty_reply", "bad_picture") else "dropped")
        assert row["detail"] and row["source"] == "synthesized"


def test_what_is_made_says_how(place: Place) -> None:
    place.run(Scripted(), questions=3, seed=5)
    made = {s.sample_id: s for s in place.made()}
    rows, lineage = place.sidecar("synthesis"), place.sidecar("lineage")
    assert {row["sample_id"] for row in rows} == set(made) == {row["child"] for row in lineage}
    raw = {bytes(i) for n in range(len(place.manifest("raw").shards)) for i in place.manifest("raw").ids(n)}
    assert {row["parent"] for row in lineage} <= raw
    for row in rows:
        sample = made[row["sample_id"]]
        assert sample.media == (row["media_id"],) and sample.turns[row["turn"]].role == "assistant"
        with_ = json.loads(row["made_with"])
        assert with_["seed"] == 5 and with_["writer"]["spec"] == "scripted" == with_["judge"]["spec"]
        prompts = json.loads(row["prompts"])
        wanted = (
            {"caption", "caption_ask", "score"} if row["type"] == "caption" else {"question", "relevance"}
        )
        assert wanted <= set(prompts) and all(len(digest) == 16 for digest in prompts.values())
        assert row["score"] == pytest.approx(0.7 * 9 + 0.2 * 8 + 0.1 * 2)
        assert row["type"] == "caption" or (row["relevance"] == 1.0 and row["blind"] in ("Red", "Blue"))
    assert {row["type"] for row in rows} > {"caption"}
    sources = place.manifest().document["sources"]
    assert sources["synthesized"] == {"licence": None, "uri": None, "citation": None}


def test_the_same_comes_out_wherever_it_was_stopped(place: Place) -> None:
    undisturbed = Scripted(bad=0.2, seed=1)
    want = place.run(undisturbed)
    asked = [request.key for request in undisturbed.asked]
    assert len(set(asked)) == len(asked)
    taken: list[str] = []
    again = Scripted(bad=0.2, seed=1)
    again.spec = "scripted"  # the same identity, so that nothing more is to be asked
    assert place.run(again)["asked"] == 0 == len(again.asked)
    for dies_after in (3, 40, 97, 10_000):
        engine = Scripted(bad=0.2, seed=1, dies_after=dies_after)
        engine.__class__ = _Other
        try:
            result = place.run(engine)
        except EngineError:
            assert dies_after < 10_000
        taken += [request.key for request in engine.asked]
    assert sorted(taken) == sorted(asked)  # nothing twice, nothing left out
    assert result["digest"] == want["digest"]


def test_a_kill_costs_the_answers_of_one_flush_at_most(place: Place, tmp_path: Path) -> None:
    undisturbed = Scripted(bad=0.2, seed=21)
    want = place.run(undisturbed)
    fresh = tmp_path / "store"
    shutil.copytree(place.url, fresh)
    shutil.rmtree(fresh / "replies")
    asked = tmp_path / "asked.txt"
    for dies_after in (40, 75, 0):
        before = asked.read_text().split() if asked.exists() else []
        done = subprocess.run(
            [sys.executable, ROOT / "tests/killed_synthesis.py", fresh, "killed", asked, str(dies_after)],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if dies_after else 0), done.stderr
        own = asked.read_text().split()[len(before) :]
        assert len(set(own)) == len(own) and len(set(own) & set(before)) <= FLUSH
    assert set(asked.read_text().split()) == {request.key for request in undisturbed.asked}
    assert Manifest.open(Store.open(str(fresh)), "killed").digest == want["digest"]


class _Other(Scripted):
    """The same words under another identity."""

    @property
    def identity(self) -> Any:
        return super().identity._replace(engine="other")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bad=st.floats(0, 1),
    questions=st.integers(0, 3),
    turns=st.integers(1, 3),
    seed=st.integers(0, 3),
    again=st.booleans(),
    blind=st.sampled_from(["none", "text", "gray"]),
    drop_blind=st.booleans(),
)
def test_nothing_is_lost(place: Place, bad: float, turns: int, **settings: Any) -> None:
    result = place.run(Scripted(bad=bad), turns=turns, **settings)
    rows = place.ledger()
    assert len(rows) == result["pictures"] * (1 + settings["questions"])
    samples = place.made()
    assert all(2 <= len(s.turns) <= 2 * turns for s in samples)
    assert sum(len(s.turns) // 2 for s in samples) == sum(row["reason"] == "merged" for row in rows)
    assert not any(
        part.text is not None and not part.text.strip() for s in samples for t in s.turns for part in t.parts
    )


def test_budgets_stop_it_and_more_goes_on(place: Place) -> None:
    few = place.run(Scripted(seed=7), max_samples=1)
    assert few["stopped"] == "max_samples" and 0 < few["done"] < few["pictures"]
    rest = Scripted(seed=7)
    whole = place.run(rest)
    assert whole["stopped"] is None and whole["done"] == whole["pictures"]
    assert whole["asked"] == len(rest.asked) and whole["stored"] > 0
    fresh = Scripted(seed=8)
    assert place.run(fresh, max_tokens=1)["stopped"] == "max_tokens"
    assert fresh.closed


def test_a_plan_tries_a_few_and_makes_nothing(place: Place) -> None:
    engine = Scripted(seed=9)
    told = place.run(engine, out="planned", plan=True)
    assert told["tried"] == 16 < told["pictures"]
    assert told["calls"] == pytest.approx(len(engine.asked) * told["pictures"] / 16, rel=0.02)
    assert "planned" not in place.store.refs()
    later = Scripted(seed=9)
    place.run(later, out="planned")
    assert not {r.key for r in later.asked} & {r.key for r in engine.asked}


def test_each_is_written_in_the_language_of_its_picture(place: Place) -> None:
    engine = Scripted(seed=11)
    place.run(engine, questions=2)
    prompts = [part for r in engine.asked for part in r.messages[-1].parts if isinstance(part, str)]
    assert "描述这张图片。" in prompts and "Describe the picture." in prompts
    only = Scripted(seed=12)
    place.run(only, questions=2, language="en")
    assert all(part.isascii() for r in only.asked for part in r.messages[-1].parts if isinstance(part, str))


def test_errors_say_what_to_do(place: Place, tmp_path: Path) -> None:
    def error(**settings: Any) -> str:
        with pytest.raises(ValueError) as found:
            place.run(Scripted(), **settings)
        return str(found.value)

    (tmp_path / "relevance.en.txt").write_text("Is {question} fine?")
    assert "its last line must name the two replies" in error(prompts=str(tmp_path))
    assert "nothing would be written" in error(questions=0, captions=False)
    assert "unknown or no styles ['long']" in error(styles={"long": 1.0})


def of_loss(loss: float) -> Pair:
    pair = Pair(Image(bytes(16), bytes(16), "a", "b", "en"), Kind("colour", {"en": "color"}), "brief", 0)
    pair.found["loss"] = loss
    return pair


@given(st.lists(st.floats(0, 20), min_size=1, max_size=40))
def test_the_highest_losses_of_a_type_go_and_a_single_one_stays(losses: list[float]) -> None:
    limits = loss_limits({"colour": np.array(losses, np.float32)}, 0.95)
    gone = sum(too_high(of_loss(loss), limits) for loss in losses)
    assert gone <= 0.05 * (len(losses) - 1) + 1 and (len(losses) > 1 or gone == 0)
    assert not too_high(of_loss(max(losses)), loss_limits({"colour": np.array(losses, np.float32)}, 1.0))


def test_a_loss_can_be_asked_for() -> None:
    pair = of_loss(1.0)
    pair.question, pair.answer = "What color is it?", "Red."
    step = next(step for step in STEPS if step.name == "loss")
    request = step.ask(Asking(SynthesizeConfig(manifest="a", out="b")), pair, Picture("00" * 16, b""))
    assert [message.role for message in request.messages] == ["user", "assistant"]


def test_every_pair_of_a_run_can_be_had_again_without_asking(place: Place) -> None:
    told = place.run(Scripted(seed=7))
    engine = Scripted(seed=7)
    ENGINES["scripted"] = lambda rest, device, options: engine
    config = SynthesizeConfig(
        store=place.url, manifest="raw", out="made", prompts="scenes", types="scenes", engine="scripted",
        blind="gray",
    )  # fmt: skip
    pairs = list(replay(config))
    assert not engine.asked and len(pairs) == told["steps"]["caption"]["taken"] + sum(
        count for kind, count in told["drawn"].items() if kind != "caption"
    )
    assert sum(pair.rejected is None for pair in pairs) == sum(told["accepted"].values())


def test_the_judge_can_be_asked_about_every_answer(place: Place) -> None:
    some = place.run(Scripted(seed=7))
    every = place.run(Scripted(seed=7), judge_all=True)
    assert every["steps"]["judge"]["taken"] == every["steps"]["again"]["passed"]
    assert every["steps"]["judge"]["taken"] > some["steps"]["judge"]["taken"]

    class Strict(Scripted):
        """Finds every answer wrong."""

        def say(self, request: Request) -> Answer:
            judged = request.choices and request.choices[0] in ("Right.", "正确。", "对。")
            return Reply(request.choices[1], "stop", 9, 1) if judged else super().say(request)

    strict = place.run(Strict(seed=31), judge_all=True)
    assert strict["steps"]["judge"]["passed"] == 0 < strict["steps"]["judge"]["taken"]
    rows = [row for row in place.ledger() if row["reason"] == "judged_wrong"]
    assert rows and all(float(row["value"]) == 0 < float(row["limit"]) for row in rows)
