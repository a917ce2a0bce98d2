"""The labelled real data: every file in, every rejection right, every sample out and back."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from inputs import MAPS, ledger, samples

from infinity_mm.manifest import Manifest
from infinity_mm.media.probe import EXTENSIONS
from infinity_mm.store import Store
from infinity_mm.verify import verify
from pipelines.export import ExportConfig
from pipelines.export import run as run_export
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest
from pipelines.mix import MixConfig
from pipelines.mix import run as run_mix


class Whole:
    """Every JSONL ingested into one store, each as a source, then mixed and filtered."""

    def __init__(self, data: Path, store: Path) -> None:
        self.data = data
        self.counts = {name: self._ingest(store, name)["counts"] for name in MAPS}
        run_mix(MixConfig(store=str(store), manifests=list(MAPS), out="all"))
        run_filter(FilterConfig(store=str(store), manifest="all", out="sound", workers=2))
        self.store = Store.open(store)
        self.all = Manifest.open(self.store, "all")
        self.sound = Manifest.open(self.store, "sound")

    def _ingest(self, store: Path, name: str) -> dict[str, Any]:
        config = IngestConfig(
            inputs=[str(self.data / f"{name}.jsonl")], store=str(store), out=name, source=name,
            map=MAPS[name] or None, mode="reference", workers=0,
        )  # fmt: skip
        made = run_ingest(config)["manifest"]
        return Manifest.open(Store.open(store), made).document


@pytest.fixture(scope="module")
def whole(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(shared_data, tmp_path_factory.mktemp("real") / "store")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def test_what_comes_in_is_stored_or_a_repeat(whole: Whole) -> None:
    for name, counts in whole.counts.items():
        assert counts["in"] == len(rows_of(whole.data / f"{name}.jsonl")), name
        assert counts["in"] == counts["kept"] + counts["dropped"], name
        assert counts["failed"] == 0, name


def test_repeats_are_records_that_say_the_same(whole: Whole) -> None:
    assert sum(counts["dropped"] for counts in whole.counts.values()) > 0
    digests = {row["path"]: row["sha256"] for row in rows_of(whole.data / "MANIFEST.jsonl")}
    for name in ("easy_vqa", "flickr8k_match", "nd_imagededup", "datajuicer"):
        rows = rows_of(whole.data / f"{name}.jsonl")
        distinct = {(digests[r["image"]], r.get("question"), r.get("answer"), r.get("text")) for r in rows}
        assert whole.counts[name]["kept"] == len(distinct), name


def test_corrupt_and_misnamed_files_are_named_as_such(whole: Whole) -> None:
    about = {row["path"]: row for row in rows_of(whole.data / "MANIFEST.jsonl")}
    corrupt = {path for path, row in about.items() if "error" in row}
    same = {"jpeg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "ppm": "PPM", "tiff": "TIFF"}
    extensions = {same[f]: e for f, e in EXTENSIONS.items() if f in same}
    misnamed = {
        path
        for path, row in about.items()
        if row.get("format") in extensions
        and Path(path).suffix.lower().lstrip(".") not in extensions[row["format"]]
    }
    # Of pictures with equal bytes and no words only the first is kept, under the first one's name.
    held = Counter(row["sha256"] for row in about.values())
    misnamed = {path for path in misnamed if held[about[path]["sha256"]] == 1}
    assert corrupt and misnamed
    found: dict[str, set[str]] = {"undecodable_media": set(), "wrong_format": set()}
    for row in ledger(whole.sound):
        for reason in (row["reason"], *row["others"]):
            if reason in found:
                index = int(row["origin"].rsplit(":", 1)[1])
                record = rows_of(whole.data / row["origin"].rsplit(":", 1)[0])[index]
                found[reason].add(record.get("image") or record["video"])
    assert found["undecodable_media"] == corrupt
    assert found["wrong_format"] == misnamed


def test_only_pictures_without_an_answer_and_stray_markers_go_besides(whole: Whole) -> None:
    bare = {
        name for name, fields in MAPS.items() if fields and "text" not in fields and "answer" not in fields
    }
    dropped = Counter((row["reason"], row["source"]) for row in ledger(whole.sound))
    assert {source for reason, source in dropped if reason == "no_answer"} == bare
    stray = sum(
        "".join(t["value"] for t in r["conversations"]).count("<image>") > 1
        for r in rows_of(whole.data / "flickr8k_conversations.jsonl")
    )
    assert dropped["marker_without_media", "flickr8k_conversations"] == stray > 0
    assert {reason for reason, _ in dropped} <= {
        *("no_answer", "marker_without_media", "undecodable_media", "wrong_format", "empty_turn"),
    }


def test_turns_pictures_clips_and_chinese_are_intact(whole: Whole) -> None:
    by_source: dict[str, list[Any]] = {}
    for sample in samples(whole.all):
        by_source.setdefault(sample.source, []).append(sample)
    assert max(len(s.turns) for s in by_source["llamafactory"]) >= 4
    assert max(len(s.media) for s in by_source["gaokao_mm"]) >= 3
    assert {len(s.media) for s in by_source["nlvr"]} == {2}
    clip = by_source["llamafactory_video"][0]
    assert clip.turns[0].parts[0].type == "video"
    assert whole.all.library().info(clip.media[0])["kind"] == "video"
    text = "".join(p.text or "" for s in by_source["gaokao_mm"] for t in s.turns for p in t.parts)
    original = "".join(r["question"] for r in rows_of(whole.data / "gaokao_mm.jsonl"))
    assert sum("\u4e00" <= c <= "\u9fff" for c in text) >= sum("\u4e00" <= c <= "\u9fff" for c in original)


@pytest.mark.parametrize("format", ["llava", "webdataset", "parquet"])
def test_out_and_back(whole: Whole, tmp_path: Path, format: Any) -> None:
    config = ExportConfig(
        store=whole.store.url, manifest="all", to=tmp_path / "out", format=format, workers=2
    )
    result = run_export(config)
    back = IngestConfig(inputs=[str(tmp_path / "out")], store=str(tmp_path / "back"), out="back", workers=2)
    made = run_ingest(back)
    ids = {s.sample_id for s in samples(Manifest.open(Store.open(tmp_path / "back"), made["manifest"]))}
    assert len(ids) == result["kept"] == result["in"] - result["dropped"]
    assert ids <= {s.sample_id for s in samples(whole.all)}
    assert result["dropped"] <= 5


def test_all_of_it_verifies(whole: Whole) -> None:
    found = verify(whole.store, "all", media=True, workers=2)
    assert found["ok"], found["problems"]


def test_no_good_chart_or_page_is_lost_by_the_recipe_for_documents(whole: Whole) -> None:
    config = FilterConfig(store=whole.store.url, manifest="sound", out="documents", recipe="documents")
    made = Manifest.open(whole.store, run_filter(config)["manifest"])
    lost = Counter(row["source"] for row in ledger(made))
    # faint drawings of 64 pixels, and four questions of one word to a model
    assert set(lost) <= {"easy_vqa", "nd_images4", "llamafactory"}, lost
    assert lost["easy_vqa"] <= 0.03 * 1911
