"""`imm types`: labelled seeds, their table and examples, and what synthesis makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, prompt_of
from talking import Scripted as Talking

from infinity_mm.cli import main
from infinity_mm.engines.base import ENGINES, EngineError, Failure, Request
from infinity_mm.store import Store
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.stage import run as synthesize
from pipelines.types.stage import TypesConfig, examples_of, run
from pipelines.types.table import Table

WORDS = {  # of a question: its group and its type in the taxonomy `scenes`, in English
    ("color", "颜色"): ("Fine-grained perception of one thing", "Colour"),
    ("shape", "形状"): ("Fine-grained perception of one thing", "Shape"),
}


def say(request: Request) -> str | Failure:
    """The right choice about colours and shapes; of other questions a failure."""
    prompt = prompt_of(request)
    question = prompt.split("\n")[2]
    for words, names in WORDS.items():
        if any(word in question for word in words):
            found = [choice for choice in request.choices if choice in names]
            return found[0] if found else request.choices[-1]
    return Failure("empty_reply", "nothing was said")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Twelve pictures with tags, asked for colours, shapes and numbers."""
    folder = tmp_path_factory.mktemp("types")
    kinds = [word for kind in ("colour", "shape", "count") for word in ("--kinds", kind)]
    still = [
        w
        for part in ("multi-turn", "multi-image", "text-only", "video", "chinese")
        for w in (f"--{part}-share", "0")
    ]
    assert main(["scenes", "--out", str(folder / "s"), "--count", "24", "--seed", "4", *kinds, *still]) == 0
    where = ["--store", str(folder / "store"), "--workers", "0"]
    assert main(["ingest", str(folder / "s" / "data.json"), "--out", "raw", "--source", "s", *where]) == 0
    assert main(["tag", "raw", "--with", "tiny", "--vocabulary", "scenes", "--out", "tagged", *where]) == 0
    return Store.open(str(folder / "store"))


@pytest.fixture(autouse=True)
def registry() -> Any:
    yield
    ENGINES.pop("scripted", None)


def make(store: Store, engine: Scripted, out: Path, **settings: Any) -> dict[str, Any]:
    ENGINES["scripted"] = lambda rest, device, options: engine
    given = {"manifest": "tagged", "engine": "scripted", "types": "scenes", "support": 1, "replace": True}
    return run(TypesConfig(store=store.url, out=out, **(given | settings)))


def test_seeds_are_labelled_counted_and_kept_as_examples(store: Store, tmp_path: Path) -> None:
    engine = Scripted(say)
    told = make(store, engine, tmp_path / "table.tsv")
    examples = [json.loads(line) for line in examples_of(tmp_path / "table.tsv").read_text().splitlines()]
    assert {one["type"] for one in examples} == {"colour", "shape"} == set(told["types"])
    assert told["seeds"] == len(examples) and told["failed"] == {"empty_reply": 24 - len(examples)}
    for one in examples:
        assert ("color" if one["type"] == "colour" else "shape") in one["question"]
    assert Table.read(tmp_path / "table.tsv").seeds == {k: v["seeds"] for k, v in told["types"].items()}
    assert engine.closed

    again = Scripted(say)
    assert make(store, again, tmp_path / "again.tsv")["asked"] == 0 == len(again.asked)
    assert (tmp_path / "again.tsv").read_bytes() == (tmp_path / "table.tsv").read_bytes()


def test_an_engine_that_dies_is_asked_the_rest_later(store: Store, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        make(store, Scripted(say, dies_at=9, model="dies"), tmp_path / "table.tsv")
    assert not (tmp_path / "table.tsv").exists()
    rest = Scripted(say, model="dies")
    told = make(store, rest, tmp_path / "table.tsv")
    assert told["stored"] >= 9 and len(rest.asked) == told["asked"]


def test_errors_say_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run `imm tag` on it"):
        make(store, Scripted(say), tmp_path / "t.tsv", manifest="raw")
    with pytest.raises(ValueError, match="give --replace"):
        make(store, Scripted(say), tmp_path, replace=False)
    with pytest.raises(ValueError, match="no tag comes with 99 seed questions"):
        make(store, Scripted(say), tmp_path / "t.tsv", support=99)


def test_what_data_say_of_their_type_needs_no_model(store: Store, tmp_path: Path) -> None:
    engine = Scripted(say)
    with pytest.raises(ValueError, match="no tag comes with"):
        make(store, engine, tmp_path / "t.tsv", by="id")  # a field that names no type
    assert not engine.asked


def test_synthesis_takes_types_and_examples_from_the_table(store: Store, tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    make(store, Scripted(say), table)
    engine = Talking(seed=3)
    ENGINES["scripted"] = lambda rest, device, options: engine
    config = SynthesizeConfig(
        store=store.url, manifest="tagged", out="made", engine="scripted", prompts="scenes", types="scenes",
        table=str(table), examples=2, questions=1, replace=True,
    )  # fmt: skip
    told = synthesize(config)
    assert set(told["accepted"]) <= {"caption", "colour", "shape"} and told["accepted"]["caption"]
    asked = [r for r in engine.asked if prompt_of(r).count("Write a question about") == 3]
    assert asked
    for request in asked:
        assert [message.role for message in request.messages] == ["user", "assistant"] * 2 + ["user"]
        pictures = [part.id for m in request.messages for part in m.parts if not isinstance(part, str)]
        assert len(set(pictures)) == 3
        word = "color" if "the color" in str(request.messages[-1].parts[1]) else "shape"
        assert all(word in str(m.parts[0]) for m in request.messages if m.role == "assistant")
    with pytest.raises(ValueError, match="was made with another taxonomy"):
        synthesize(config.model_copy(update={"types": "general"}))
    examples_of(table).unlink()
    with pytest.raises(ValueError, match="no examples"):
        synthesize(config)
