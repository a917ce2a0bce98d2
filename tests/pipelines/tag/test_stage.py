"""`imm tag`: by an embedder, by an engine, as they arrived; once a medium, for any workers, read later."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inputs import jpeg, record
from pydantic import ValidationError
from scripted import Scripted, picture_ids, prompt_of

import pipelines.tag.by_engine
import pipelines.tag.stage
from infinity_mm.cli import main
from infinity_mm.engines.base import EngineError, Failure, Request
from infinity_mm.manifest import Manifest
from infinity_mm.media.sniff import sniff
from infinity_mm.models.embedder import open_embedder
from infinity_mm.scenes import ScenesConfig, make_scenes
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip
from infinity_mm.store import Store, read_table
from infinity_mm.withdraw import forget
from pipelines.filter import FilterConfig
from pipelines.filter import run as run_filter
from pipelines.tag.by_embedder import KEPT, PHRASES
from pipelines.tag.kept import Cut, Tagged, Tags, Untagged, tags_of
from pipelines.tag.stage import TagConfig, run
from pipelines.tag.vocabulary import Vocabulary

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


def tag(manifest: Manifest, **options: Any) -> tuple[dict[str, Any], Manifest]:
    values = {"manifest": manifest.file, "store": manifest.store.url, "out": "tagged", "workers": 0}
    result = run(TagConfig.model_validate(values | {"replace": True} | options))
    return result, Manifest.open(manifest.store, result["manifest"])


def by_name(manifest: Manifest) -> dict[str, list[Tagged] | Untagged | None]:
    """What each medium has, by the name of its file."""
    tags, found = Tags(manifest), {}
    for number in range(len(manifest.shards)):
        names = dict(
            zip(*manifest.table(number).select(["sample_id", "names"]).to_pydict().values(), strict=True)
        )
        for sample, media in tags_of(tags, number):
            found |= dict(zip(names[sample], media, strict=True))
    return found


def sidecars(store: Store) -> dict[str, bytes]:
    folders = ("tags_by_embedder", "tags_by_engine", "tags_arrived")
    return {name: store.read(name) for folder in folders for name in store.names(f"sidecars/{folder}")}


@pytest.fixture
def three(dataset: Dataset, ingest: Ingest) -> Manifest:
    """Three pictures, one of them in two samples, a text-only sample, and one picture that is broken."""
    files = {f"{name}.jpg": jpeg(i) for i, name in enumerate("abc")} | {"broken.jpg": jpeg(9)[:60]}
    records = [record(f"{name}.jpg", f"What is {i}?", "It.") for i, name in enumerate([*"abca", "broken"])]
    return ingest(dataset([*records, record(None, "Text?", "Yes.")], files))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Scripted], Scripted]]:
    """`scripted(engine)`: from then on every engine that is opened is this one."""

    def install(engine: Scripted) -> Scripted:
        monkeypatch.setattr(pipelines.tag.stage, "open_engine", lambda spec: engine)
        return engine

    yield install


def test_an_embedder_s_tags_are_cosines_with_the_vocabulary(three: Manifest) -> None:
    result, made = tag(three, **{"with": "tiny"}, vocabulary="scenes", top=15)
    assert (result["media"], result["tagged"], result["media_failed"]) == (4, 3, 1)
    assert [result[k] for k in ("in", "kept", "dropped", "failed", "made")] == [6, 6, 0, 0, 0]
    assert made.digest == three.digest and made.document["stage"] == "tag"
    found, embedder = by_name(made), open_embedder("tiny", "cpu")
    assert isinstance(found["broken.jpg"], Untagged) and found["broken.jpg"].reason == "truncated"
    vocabulary = Vocabulary.load("scenes").tags
    words = sum(embedder.texts([p.replace("{}", t) for t in vocabulary]).astype(float) for p in PHRASES)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    from infinity_mm.media.decode import decode_image

    told = found["a.jpg"]
    assert isinstance(told, list)
    picture = embedder.images([decode_image(jpeg(0)).pixels])[0]
    expected = dict(zip(vocabulary, words @ picture, strict=True))
    assert {one.tag: one.score for one in told} == pytest.approx(expected, abs=2e-3)
    assert [one.score for one in told] == sorted((one.score for one in told), reverse=True)


def test_another_threshold_measures_nothing(three: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = tag(three, **{"with": "tiny"}, vocabulary="scenes", top=15)
    before, whole = sidecars(three.store), by_name(made)["a.jpg"]
    assert isinstance(whole, list)
    monkeypatch.setattr(pipelines.tag.by_embedder, "tag_vectors", None)
    limit = whole[4].score
    _, cut = tag(three, **{"with": "tiny"}, vocabulary="scenes", threshold=limit, top=3)
    assert by_name(cut)["a.jpg"] == whole[:3]
    _, cut = tag(three, **{"with": "tiny"}, vocabulary="scenes", threshold=limit)
    assert by_name(cut)["a.jpg"] == whole[:5]
    assert sidecars(three.store) == before


def test_no_more_than_the_best_are_kept(three: Manifest) -> None:
    result, made = tag(three, **{"with": "tiny"}, top=KEPT)
    assert {len(one) for one in by_name(made).values() if isinstance(one, list)} == {KEPT}
    assert len(result["tags"]) == 20 and result["distinct"] >= KEPT
    [entry] = made.document["sidecars"]
    stored = read_table(made.store, entry["file"]).column("tags").to_pylist()
    assert {len(one) for one in stored if one is not None} == {KEPT}


def test_workers_change_nothing(three: Manifest, tmp_path: Path, dataset: Dataset, ingest: Ingest) -> None:
    tag(three, **{"with": "tiny"}, vocabulary="scenes")
    again = ingest(tmp_path / "data" / "data.json", store="other")
    tag(again, **{"with": "tiny"}, vocabulary="scenes", workers=2)
    assert sidecars(again.store) == sidecars(three.store) != {}


def test_an_engine_is_asked_once_a_picture(three: Manifest, scripted: Any) -> None:
    engine = scripted(Scripted(lambda request: "dog, Wolves, A Leash"))
    result, made = tag(three, **{"with": "engine:any"})
    assert engine.closed and result["tagged"] == 4
    asked = [picture_ids(request) for request in engine.asked]
    assert sorted(asked) == sorted({tuple(ids): ids for ids in asked}.values()) and len(asked) == 4
    assert "up to 12 short tags" in prompt_of(engine.asked[0])
    assert by_name(made)["a.jpg"] == [Tagged("dog", 0.5), Tagged("wolves", 0.5), Tagged("leash", 0.5)]
    assert made.document["tags"]["engine"]["engine"] == "scripted"

    again = scripted(Scripted(lambda request: "cat"))
    _, cut = tag(three, **{"with": "engine:any"}, threshold=0.6)
    assert not again.asked and by_name(cut)["a.jpg"] == []
    other = scripted(Scripted(lambda request: "cat", model="another"))
    _, made = tag(three, **{"with": "engine:any"})
    assert len(other.asked) == 4 and by_name(made)["a.jpg"] == [Tagged("cat", 0.5)]


def test_the_prompt_and_the_vocabulary_are_part_of_what_was_asked(
    three: Manifest, scripted: Any, tmp_path: Path
) -> None:
    (tmp_path / "tags.zh.txt").write_text("最多{limit}个标签", encoding="utf-8")
    engine = scripted(Scripted(lambda request: "圆形、狗"))
    _, made = tag(three, **{"with": "engine:any"}, lang="zh")
    assert by_name(made)["a.jpg"] == [Tagged("circle", 0.5), Tagged("dog", 0.5)]
    _, made = tag(three, **{"with": "engine:any"}, lang="zh", vocabulary="scenes")
    assert by_name(made)["a.jpg"] == [Tagged("circle", 0.5), Tagged("狗", 0.5)]
    tag(three, **{"with": "engine:any"}, lang="zh", prompts=[str(tmp_path)])
    assert [prompt_of(request) for request in engine.asked[-2:]] == ["最多12个标签"] * 2
    assert len(engine.asked) == 12
    (tmp_path / "tags.zh.txt").write_text("标签")
    with pytest.raises(ValueError, match=r"prompt tags\.zh has no slot \{limit\}"):
        tag(three, **{"with": "engine:any"}, lang="zh", prompts=[str(tmp_path)])


def test_what_an_engine_could_not_do_is_told_and_tried_again(three: Manifest, scripted: Any) -> None:
    order: list[str] = []

    def say(request: Request) -> str | Failure:
        order.append(picture_ids(request)[0])
        said = ["dog", "The picture shows nothing that I could name in a few words.", ""]
        return said[len(order) - 1] if len(order) < 4 else Failure("server_busy", "429")

    scripted(Scripted(say))
    result, made = tag(three, **{"with": "engine:any"})
    assert result["failures"] == {"no_tags_empty": 1, "no_tags_list": 1, "server_busy": 1}
    assert (result["tagged"], result["media_failed"], result["kept"]) == (1, 3, 6)
    reasons = {one.reason for one in by_name(made).values() if isinstance(one, Untagged)}
    assert reasons == set(result["failures"])
    again = scripted(Scripted(lambda request: "cat"))
    result, _ = tag(three, **{"with": "engine:any"})
    assert [picture_ids(request) for request in again.asked] == [order[3:]]
    assert result["failures"] == {"no_tags_empty": 1, "no_tags_list": 1} and result["tagged"] == 2


def test_an_engine_that_dies_loses_no_piece(
    plain: Path, ingest: Ingest, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ingest(plain)
    monkeypatch.setattr(pipelines.tag.by_engine, "PIECE", 4)
    first = scripted(Scripted(lambda request: "dog", dies_at=11))
    with pytest.raises(EngineError):
        tag(manifest, **{"with": "engine:any"})
    assert first.closed and "tagged" not in manifest.store.refs()
    second = scripted(Scripted(lambda request: "dog"))
    tag(manifest, **{"with": "engine:any"})
    assert len(second.asked) == 20 - 8
    [file] = sidecars(manifest.store)
    assert ".of-" in file
    kept = sidecars(manifest.store)
    whole = ingest(plain, store="whole")
    tag(whole, **{"with": "engine:any"})
    assert sidecars(whole.store) == kept


def test_only_what_a_manifest_uses_is_asked_and_more_later(
    plain: Path, ingest: Ingest, scripted: Any
) -> None:
    manifest = ingest(plain)
    config = {"manifest": "raw", "store": manifest.store.url, "out": "few", "workers": 0}
    few = run_filter(FilterConfig(**config, where=["draw < 0.2"]))
    few = Manifest.open(manifest.store, few["manifest"])
    engine = scripted(Scripted(lambda request: "dog"))
    result, _ = tag(few, **{"with": "engine:any"})
    assert 0 < len(engine.asked) == result["media"] < 20
    tag(manifest, **{"with": "engine:any"})
    assert len(engine.asked) == 20
    tag(few, **{"with": "engine:any"})
    assert len(engine.asked) == 20


def test_a_clip_counts_as_its_middle_frame(dataset: Dataset, ingest: Ingest, scripted: Any) -> None:
    clip = encode_clip(draw_clip(np.random.default_rng(1), 64))
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]
    manifest = ingest(dataset([{"id": 1, "video": "c.mp4", "conversations": turns}], {"c.mp4": clip}))
    engine = scripted(Scripted(lambda request: "dog"))
    result, _ = tag(manifest, **{"with": "engine:any"})
    assert result["tagged"] == 1
    [picture] = [part for part in engine.asked[0].messages[0].parts if not isinstance(part, str)]
    assert sniff(memoryview(picture.data)) == "png"
    result, _ = tag(manifest, **{"with": "tiny"}, vocabulary="scenes")
    assert result["tagged"] == 1


def test_tags_that_arrived_are_used_as_they_are(dataset: Dataset, ingest: Ingest) -> None:
    files = {f"{name}.jpg": jpeg(i) for i, name in enumerate("abcdef")}
    release = {"ram++_tags": ["dog", "Grass", "run"], "ram++_tags_score": [1.5, 7.25, 3.0]}
    bad = {"tags": "dog"}
    records = [
        record("a.jpg", "What?", "A.") | release,
        record("a.jpg", "Where?", "B.") | {"tags": ["dog", "sky"], "tags_score": [9.0, 2.0]},
        record("b.jpg", "What?", "A.") | {"tags": ["plain", "words"]},
        record("c.jpg", "What?", "A."),
        record("d.jpg", "What?", "A.") | bad,
        record("e.jpg", "What?", "A.") | bad,
        record("e.jpg", "Where?", "A.") | {"tags": []},
        record(None, "Text?", "A.") | release,
    ]
    manifest = ingest(dataset(records, files))
    result, made = tag(manifest, **{"with": "arrived"})
    assert by_name(made) == {
        "a.jpg": [("dog", 9.0), ("Grass", 7.25), ("run", 3.0), ("sky", 2.0)],
        "b.jpg": [("plain", None), ("words", None)],
        "c.jpg": None,
        "d.jpg": Untagged("tags_failed", "tags is not a list of texts"),
        "e.jpg": [],
    }
    told = ("media", "tagged", "without", "media_not_applicable", "media_failed")
    assert [result[name] for name in told] == [5, 2, 1, 1, 1]
    _, cut = tag(manifest, **{"with": "arrived"}, threshold=3.0, top=2)
    assert by_name(cut)["a.jpg"] == [("dog", 9.0), ("Grass", 7.25)] and by_name(cut)["b.jpg"] == []


def test_several_pictures_share_no_tags(dataset: Dataset, ingest: Ingest) -> None:
    files = {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}
    both = record(["a.jpg", "b.jpg"], "Which?", "This.") | {"tags": ["dog"]}
    manifest = ingest(dataset([both, record("a.jpg", "What?", "A.") | {"tags": ["cat"]}], files))
    _, made = tag(manifest, **{"with": "arrived"})
    assert by_name(made) == {"a.jpg": [("cat", None)], "b.jpg": None}


def test_where_nothing_arrived_it_is_said(three: Manifest) -> None:
    with pytest.raises(ValueError, match="no sample of this manifest brought tags"):
        tag(three, **{"with": "arrived"})


def test_a_later_manifest_finds_the_nearest_tags(three: Manifest) -> None:
    with pytest.raises(ValueError, match="has no tags: run `imm tag`"):
        Tags(three)
    _, made = tag(three, **{"with": "tiny"}, vocabulary="scenes", top=2)
    config = {"store": three.store.url, "workers": 0, "replace": True}
    kept = run_filter(FilterConfig(manifest="tagged", out="kept", where=["media_count = 1"], **config))
    later = Manifest.open(three.store, kept["manifest"])
    assert by_name(later)["a.jpg"] == by_name(made)["a.jpg"] and len(by_name(later)["a.jpg"] or ()) == 2
    _, twice = tag(later, **{"with": "tiny"}, top=5)
    general = by_name(twice)["a.jpg"]
    assert isinstance(general, list) and len(general) == 5
    assert not {one.tag for one in general} <= set(Vocabulary.load("scenes").tags)
    assert Tags(twice).of([b"\0" * 16, b"\1" * 16])[1] == Untagged(
        "missing_media", "it is in no media index of this manifest"
    )
    assert Tags(twice).of([]) == []


def test_a_withdrawn_medium_has_no_tags(three: Manifest) -> None:
    _, made = tag(three, **{"with": "tiny"}, vocabulary="scenes")
    medium = next(one for _, one in _media(made) if isinstance(Tags(made).of([one])[0], list))
    forget(three.store, medium.hex(), why="test")
    [found] = Tags(Manifest.open(three.store, made.file)).of([medium])
    assert isinstance(found, Untagged) and found.reason == "withdrawn"


def _media(manifest: Manifest) -> Iterator[tuple[bytes, bytes]]:
    for number in range(len(manifest.shards)):
        for sample in manifest.table(number).select(["sample_id", "media"]).to_pylist():
            yield from ((sample["sample_id"], one) for one in sample["media"])


def test_a_cut_keeps_what_it_says() -> None:
    tags, scores = ["a", "b", "c"], [0.5, 0.2, None]
    assert Cut(None, 2).of(tags, scores) == [("a", 0.5), ("b", 0.2)]
    assert Cut(0.3, 9).of(tags, scores) == [("a", 0.5)]
    assert Cut(None, 9).of(tags, None) == [("a", None), ("b", None), ("c", None)]
    assert Cut(-1, 9).of(tags, scores) == [("a", 0.5), ("b", 0.2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"with": "tinny"},
            "give open_clip:MODEL/PRETRAINED, hf:ID_OR_FOLDER or tiny, engine:SPEC, or arrived",
        ),
        ({"with": "arrived", "vocabulary": "scenes"}, "--vocabulary has no use with tags that arrived"),
        ({"with": "tiny", "lang": "zh"}, "--lang is for engines"),
        ({"with": "arrived", "prompts": ["x"]}, "--prompts is for engines"),
        ({"with": "tiny", "top": 33}, "less than or equal to 32"),
    ],
)
def test_what_has_no_use_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        TagConfig.model_validate({"manifest": "m", "out": "o"} | options)
    assert message in str(error.value)


def test_pictures_only_embedders_are_refused(three: Manifest, tmp_path: Path) -> None:
    from onnx_file import mean_of_rows

    (tmp_path / "means.onnx").write_bytes(mean_of_rows(["n", 3, 8, 8]))
    with pytest.raises(ValueError, match="embeds pictures only: tags need one with texts"):
        tag(three, **{"with": f"onnx:{tmp_path / 'means.onnx'}"})
    assert not sidecars(three.store)


def test_the_command(three: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["tag", three.file, "--store", three.store.url, "--with", "tiny", "--vocabulary", "scenes"]
    assert main([*args, "--out", "seen", "--workers", "0"]) == 0
    shown = capsys.readouterr().out
    assert "tagged" in shown and "truncated" in shown and "triangle" in shown
    assert main([*args, "--out", "seen", "--workers", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["name"] == "seen"
        and told["media"] == 4
        and set(told["tags"]) <= set(Vocabulary.load("scenes").tags)
    )
    assert main([*args, "--out", "seen", "--threshold", "0.9"]) == 1
    assert "the name 'seen' is taken" in capsys.readouterr().err


def test_colours_and_shapes_of_scenes_are_found(tmp_path: Path, ingest: Ingest) -> None:
    """`benchmarks/tags.py` prints the whole table."""
    drawn = ScenesConfig(
        out=tmp_path / "drawn", count=200, seed=41, kinds=("colour", "shape", "count"), video_share=0,
        text_only_share=0, multi_image_share=0,
    )  # fmt: skip
    make_scenes(drawn)
    _, made = tag(ingest(drawn.out / "data.json"), **{"with": "tiny"}, vocabulary="scenes", threshold=0.145)
    found = by_name(made)
    hits = told = true = 0
    for line in (drawn.out / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        [name], [scene] = truth["files"], truth["scenes"]
        there = {one[key] for one in scene["objects"] for key in ("colour", "shape")}
        said = found[name]
        assert isinstance(said, list)
        seen = {one.tag for one in said} - {"chart", "written text"}
        hits, told, true = hits + len(seen & there), told + len(seen), true + len(there)
    assert hits / told > 0.5 and hits / true > 0.5, (hits / told, hits / true)
