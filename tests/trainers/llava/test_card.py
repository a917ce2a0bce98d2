"""A model's card, written from a run and from scores."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inputs import jpeg, record
from tiny_llava import composition

from infinity_mm.cli import main
from infinity_mm.image_tokens import Geometry
from infinity_mm.store import Store
from trainers.llava.card import SCORES, card, with_scores


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Store, dict[str, Any]]:
    """A folder of a run of one stage on a manifest, and what its last checkpoint says."""
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "data.json").write_text(json.dumps([record("a.jpg")]))
    given = ["--store", str(tmp_path / "store"), "--workers", "0", "--source", "mine", "--licence", "CC0-1.0"]
    assert main(["ingest", str(tmp_path / "data.json"), "--out", "raw", *given]) == 0
    store = Store.open(str(tmp_path / "store"))
    (tmp_path / "run" / "align").mkdir(parents=True)
    lines = [
        {"step": n, "cursor": 8 * n, "loss": 5.0 - n, "supervised": n, "tokens": 100, "seconds": 36.0}
        for n in (1, 2, 3)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "run" / "align" / "record.jsonl").write_text(text)
    gone = "f" * 64 + "-" + "0" * 16
    segment = {"stage": "align", "from": 0, "samples": 24, "names": ["raw", "gone"]}
    about = {
        "segments": [{**segment, "data": {store.refs()["raw"]: 2.0, gone: 1.0}}],
        "settings": {"seed": 7},
        "software": {"torch": "2.x"},
    }
    return tmp_path / "run", store, about


def test_a_card_tells_stages_data_sources_and_licences(run: tuple[Path, Store, dict[str, Any]]) -> None:
    out, store, about = run
    made = composition()
    text = card("Tiny | one", out, about, store, made.build(seed=1), made)
    assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\n")
    assert "# Tiny | one" in text
    assert "| align | 24 | 3 | 300 | 6 | 2.6667 | 0.03 |" in text  # loss: (4 + 3·2 + 2·3) / 6
    assert f"| align | 0 | raw | `{store.refs()['raw']}` | 2 |" in text
    assert "| mine | CC0-1.0 | not stated | not stated |" in text
    assert "tiles of 32×32 pixels: a base tile, and a grid of up to 9." in text
    assert '"seed": 7' in text and "torch 2.x" in text and "Not measured yet" in text


def test_a_card_says_that_one_tile_is_only_a_stage(run: tuple[Path, Store, dict[str, Any]]) -> None:
    out, store, about = run
    made = replace(composition(), geometry=Geometry(32, 8))
    assert "it is a stage to train on from" in card("t", out, about, store, made.build(seed=1), made)


def result(right: float, blind: float) -> dict[str, Any]:
    def row(share: float) -> dict[str, Any]:
        return {"questions": 100, "exact": share, "normalised": share, "value": share}

    types = {"colour": row(right), "relation": row(0.5)}
    return {
        "manifest": "abc",
        **row(right),
        "types": types,
        "controls": {"wrong": {**row(blind), "types": {"colour": row(blind), "relation": row(0.45)}}},
    }


def test_scores_take_the_place_of_earlier_ones(run: tuple[Path, Store, dict[str, Any]]) -> None:
    out, store, about = run
    made = composition()
    text = with_scores(card("t", out, about, store, made.build(seed=1), made), result(0.9, 0.2))
    assert "| colour | 100 | 0.900 | 0.900 | 0.900 | 0.200 |" in text
    assert "No better than blind on: relation." in text and "Not measured" not in text
    again = with_scores(text, result(0.3, 0.25))
    assert "No better than blind on: colour; relation." in again and "0.900" not in again
    assert again.count(SCORES) == 2 and "## Software" in again
    with pytest.raises(ValueError, match="none that imm wrote"):
        with_scores("# Another card", result(0.9, 0.2))
