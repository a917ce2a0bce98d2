"""`imm dedup` on small real pictures: what is the same, what is not, which is kept; what the ledger says."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from inputs import jpeg, ledger, picture, reasons, record, samples, saved
from PIL import Image, ImageEnhance
from pydantic import ValidationError

from infinity_mm.manifest import Manifest
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.world import draw_clip
from infinity_mm.store import Store
from infinity_mm.trace import trace
from infinity_mm.verify import verify
from infinity_mm.withdraw import forget
from pipelines.dedup import looking
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.stage import run

Dataset = Callable[..., Path]
Ingest = Callable[..., Manifest]


def deduped(manifest: Manifest, by: str, **options: Any) -> Manifest:
    config = DedupConfig(
        manifest=manifest.file,
        store=manifest.store.url,
        **{"out": "out", "by": [by], "workers": 0, "replace": True, **options},
    )
    made = Manifest.open(manifest.store, run(config)["manifest"])
    check(manifest, made)
    return made


def check(parent: Manifest, made: Manifest) -> None:
    """The contract: the account closes, and every drop names a sample that is there, or one that was made."""
    there = {s.sample_id for s in samples(made)}
    counts = made.document["counts"]
    assert counts["in"] == counts["kept"] + counts["dropped"] + counts["failed"] == parent.samples
    assert made.samples == counts["kept"] + counts["made"]
    files = made.document["dedup"]["against_files"]
    beside = {s.sample_id for f in files for s in samples(Manifest.open(made.store, f))}
    for row in ledger(made):
        if row["outcome"] == "dropped" and row["reason"] in ("exact", "perceptual", "text", "semantic"):
            assert row["witness"] in (beside if files else there) or row["child"] in there
            assert row["value"] and row["limit"] and row["detail"]
        elif row["reason"] == "merged":
            assert row["child"] in there
    assert verify(made.store, made.file, media=False)["ok"]


def test_texts_near_and_short_ones_exactly(dataset: Dataset, ingest: Ingest) -> None:
    long = "The quick brown fox jumps over the lazy dog while seven geese watch from the old red barn door"
    texts = [
        ("Tell a story.", long),
        ("Tell a story.", long + " today"),
        ("Tell a story.", long.replace("fox", "cat").replace("geese", "hens").replace("barn", "shed")),
        ("Yes?", "No."),
        ("yes", "no!"),
        ("Yes?", "Yes."),
        ("她在做什么？", "她站在红色的小船旁边，手里拿着一本厚厚的书，正在等她的朋友。"),
        ("她在做什么？", "她站在红色的小船旁边，手里拿着一本厚厚的书，正在等她的朋友们。"),
    ]
    raw = ingest(dataset([record(None, q, a) for q, a in texts], {}))
    made = deduped(raw, "text", keep=["first"])
    assert reasons(made) == {f"data.json:{i}": "text" for i in (1, 4, 7)}
    row = next(r for r in ledger(made) if r["origin"] == "data.json:1")
    assert 0.8 <= float(row["value"]) < 1 and row["limit"] == "0.8"
    assert next(r for r in ledger(made) if r["origin"] == "data.json:4")["value"] == "1"


def test_the_same_text_about_another_picture_stays(dataset: Dataset, ingest: Ingest) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(2)}
    records = [record("0.png", "What is it?", "A blob."), record("1.png", "What is it?", "A blob.")]
    raw = ingest(dataset([*records, record("0.png", "what is it", "A blob")], files))
    assert reasons(deduped(raw, "text", keep=["first"])) == {"data.json:2": "text"}
    assert len(reasons(deduped(raw, "text", media="any"))) == 2


def test_files_alone(dataset: Dataset, ingest: Ingest) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(2)}
    asked = [("0.png", "Who?"), ("0.png", "Where to?"), ("1.png", "Who?")]
    raw = ingest(dataset([record(f, q, "One.") for f, q in asked] + [record(None, "Who?", "One.")], files))
    assert reasons(deduped(raw, "exact", exact_key="bytes")) == {}
    made = deduped(raw, "exact", exact_key="bytes", texts="any", keep=["longest"])
    assert reasons(made) == {"data.json:0": "exact"}


def test_pixels_decide_what_is_exact(dataset: Dataset, ingest: Ingest) -> None:
    image = picture(3)
    files = {
        "a.png": saved(image),
        "b.webp": saved(image, "WEBP", lossless=True),
        "c.png": saved(image.resize((48, 32)).resize((96, 64))),
        "turned.png": saved(Image.fromarray(np.asarray(image).reshape(96, 64, 3))),
    }
    raw = ingest(dataset([record(name) for name in files] + [record("b.webp", "And this?")], files))
    made = deduped(raw, "exact", keep=["first"])
    assert reasons(made) == {"data.json:1": "exact"}
    assert ledger(made)[0]["witness"] == samples(raw)[0].sample_id


def test_pictures_that_look_the_same(dataset: Dataset, ingest: Ingest) -> None:
    files = {f"{i}.png": saved(picture(i, (320, 240))) for i in range(3)}
    files |= {
        f"{i}-small.jpg": saved(picture(i, (320, 240)).resize((160, 120)), "JPEG", quality=60)
        for i in range(3)
    }
    records = [record(name) for name in files] + [record("0-small.jpg", "Another question?")]
    raw = ingest(dataset(records, files))
    made = deduped(raw, "perceptual")
    assert reasons(made) == {f"data.json:{i}": "perceptual" for i in (3, 4, 5)}, "the larger one is kept"
    row = ledger(made)[0]
    assert 0 <= int(row["value"]) <= 8 and row["limit"] == "8"
    assert len(reasons(deduped(raw, "perceptual", texts="any"))) == 4


def test_pictures_of_one_colour_are_told_apart(dataset: Dataset, ingest: Ingest) -> None:
    colours = ("red", "blue", "black", "white", "#fe0000")
    files = {f"{c.strip('#')}.png": saved(Image.new("RGB", (64, 64), c)) for c in colours}
    raw = ingest(dataset([record(name) for name in files], files))
    assert reasons(deduped(raw, "perceptual", keep=["first"])) == {"data.json:4": "perceptual"}
    made = deduped(raw, "exact", exact_key="phash", keep=["first"])
    assert reasons(made) == {"data.json:4": "exact"}, "equal hashes alone would make them one"


def test_a_copy_in_another_tone_is_found_though_its_sky_is_blown(
    dataset: Dataset, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for i in (0, 1, 3):
        image = np.array(picture(i, (320, 240)).convert("RGB"))
        image[:130] = image[:130] // 8 + 210  # a pale sky
        scene = Image.fromarray(image)
        files[f"{i}.png"] = saved(scene)
        files[f"{i}-bright.jpg"] = saved(ImageEnhance.Brightness(scene).enhance(1.3), "JPEG")
        files[f"{i}-gray.png"] = saved(scene.convert("L"))
    raw = ingest(dataset([record(name) for name in files], files))
    found = reasons(deduped(raw, "perceptual", keep=["first"]))
    assert found == {f"data.json:{i}": "perceptual" for i in (1, 2, 4, 5, 7, 8)}
    monkeypatch.setattr(looking, "tonal", lambda drawn, margin: np.zeros(len(drawn), bool))
    found = reasons(deduped(raw, "perceptual", keep=["first"]))
    assert found == {f"data.json:{i}": "perceptual" for i in (2, 5, 8)}, (
        "the bright ones are of low information"
    )


def test_mirrored_and_turned_only_where_asked(dataset: Dataset, ingest: Ingest) -> None:
    image = picture(5, (320, 240))
    files = {
        "a.png": saved(image),
        "b.png": saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "c.png": saved(image.transpose(Image.Transpose.ROTATE_90)),
    }
    raw = ingest(dataset([record(name) for name in files], files))
    assert reasons(deduped(raw, "perceptual")) == {}
    assert len(reasons(deduped(raw, "perceptual", flips=True))) == 2


def test_several_pictures_are_compared_in_order(dataset: Dataset, ingest: Ingest) -> None:
    files = {f"{i}.png": saved(picture(i, (160, 120))) for i in range(3)}
    files |= {f"{i}.jpg": saved(picture(i, (160, 120)), "JPEG") for i in range(3)}
    lists = [["0.png", "1.png"], ["0.jpg", "1.jpg"], ["1.png", "0.png"], ["0.png"], ["0.jpg", "2.jpg"]]
    raw = ingest(dataset([record(one) for one in lists], files))
    assert reasons(deduped(raw, "perceptual", keep=["first"])) == {"data.json:1": "perceptual"}


def test_what_cannot_be_looked_at_fails(dataset: Dataset, ingest: Ingest) -> None:
    good = saved(picture(0), "JPEG")
    files = {"good.jpg": good, "cut.jpg": good[: len(good) // 2]}
    raw = ingest(dataset([record("good.jpg"), record("cut.jpg"), record(["good.jpg", "cut.jpg"])], files))
    made = deduped(raw, "exact,perceptual")
    assert {r["origin"]: (r["outcome"], r["reason"]) for r in ledger(made)} == {
        f"data.json:{i}": ("failed", "truncated") for i in (1, 2)
    }
    assert made.samples == 1
    assert deduped(raw, "exact", exact_key="bytes", texts="any", keep=["first"]).samples == 3


def larger(clip: bytes) -> bytes:
    """A clip half as large again, in another codec."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(clip)) as old, av.open(buffer, "w", format="mp4") as new:
        stream = new.add_stream("mpeg4", rate=old.streams.video[0].average_rate)
        stream.width = stream.height = 96
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for frame in old.decode(video=0):
            image = frame.to_image().resize((96, 96))
            new.mux(stream.encode(av.VideoFrame.from_image(image)))
        new.mux(stream.encode())
    return buffer.getvalue()


def spliced(first: bytes, then: bytes) -> bytes:
    """The first third of a clip, and the rest of another."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(first)) as one, av.open(io.BytesIO(then)) as other:
        frames = [[f.to_image() for f in clip.decode(video=0)] for clip in (one, other)]
    with av.open(buffer, "w", format="mp4") as new:
        stream = new.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for image in frames[0][: len(frames[0]) // 3] + frames[1][len(frames[1]) // 3 :]:
            new.mux(stream.encode(av.VideoFrame.from_image(image)))
        new.mux(stream.encode())
    return buffer.getvalue()


def test_clips_by_their_frames(tmp_path: Path, ingest: Ingest) -> None:
    """The same clip in another size; another clip; one that only begins as the first does."""
    clips = [encode_clip(draw_clip(np.random.default_rng(seed), 64)) for seed in (0, 3)]
    made = {"a": clips[0], "b": clips[1], "a-again": larger(clips[0]), "a-then-b": spliced(*clips)}
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, clip in made.items():
        (folder / f"{name}.mp4").write_bytes(clip)
    turns = [{"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "A shape."}]
    records = [{"video": f"{name}.mp4", "conversations": turns} for name in made]
    (folder / "data.json").write_text(json.dumps(records))
    raw = ingest(folder / "data.json")
    found = deduped(raw, "perceptual", keep=["first"])
    assert {Path(o).name: r for o, r in reasons(found).items()} == {"data.json:2": "perceptual"}
    assert reasons(deduped(raw, "exact")) == {}, "clips have no pixels to be the same by"


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (["first"], 0),
        (["longest"], 2),
        (["source:b>a", "first"], 1),
        (["-chars"], 0),
        (["meta.score"], 1),
        (["words"], 2),
    ],
)
def test_which_is_kept(dataset: Dataset, ingest: Ingest, keep: list[str], kept: int) -> None:
    files = {"0.png": saved(picture(0))}
    records = [
        record("0.png", "Who?", "A b c", source="a", score=1),
        record("0.png", "Who?", "A b c de", source="b", score=9),
        record("0.png", "Who?", "A b c de f", source="a", score=5),
    ]
    raw = ingest(dataset(records, files))
    made = deduped(raw, "exact", exact_key="bytes", texts="any", keep=keep)
    assert [s.origin for s in samples(made)] == [f"data.json:{kept}"]


def test_against_another_manifest(dataset: Dataset, ingest: Ingest) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(3)}
    old = ingest(dataset([record("0.png", "Who?", "One.")], files, name="old"), out="old")
    records = [record("0.png", "who", "one"), record("1.png"), record("1.png", "What is this", "Noise")]
    new = ingest(dataset(records, files, name="new"), out="new")
    made = deduped(new, "text", against=["old"])
    (row,) = ledger(made)
    assert row["origin"].endswith("data.json:0") and row["witness"] == samples(old)[0].sample_id
    assert "the witness is in old" in row["detail"]
    assert made.samples == 2, "samples of the manifest are not compared with each other"


def test_turns_are_merged(dataset: Dataset, ingest: Ingest) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(2)}
    records = [
        record("0.png", "Who is there?", "One."),
        record("0.png", "Where?", "Here."),
        record("0.png", "where", "here"),
        record("1.png", "Where?", "There."),
        {"image": "0.png", "conversations": [{"from": "human", "value": "What?\n<image>"},
         {"from": "gpt", "value": "It."}, {"from": "human", "value": "See <image>?"}]},
        record(None, "Where?", "Here."),
    ]  # fmt: skip
    raw = ingest(dataset(records, files))
    made = deduped(raw, "text", merge_turns=True, keep=["first"])
    rows = {r["origin"]: r for r in ledger(made)}
    assert {o: r["reason"] for o, r in rows.items()} == {
        "data.json:0": "merged", "data.json:1": "merged", "data.json:2": "text",
    }  # fmt: skip
    assert len({r["child"] for r in rows.values()}) == 1
    assert rows["data.json:2"]["witness"] == rows["data.json:1"]["sample_id"]
    child = next(s for s in samples(made) if s.sample_id == rows["data.json:0"]["child"])
    said = ["".join(p.text or "<image>" for p in t.parts) for t in child.turns]
    assert said == ["<image>Who is there?" if "\n" not in said[0] else said[0], "One.", "Where?", "Here."]
    assert json.loads(child.meta)["merged"] == [rows[f"data.json:{i}"]["sample_id"].hex() for i in (0, 1)]
    assert made.document["counts"]["made"] == 1 and made.document["dedup"]["merged"] == 2
    [life] = [s["life"] for s in trace(made.store, child.sample_id.hex())["samples"]]
    parents = [rows[f"data.json:{i}"]["sample_id"].hex() for i in (0, 1)]
    assert [(step["outcome"], step["parents"]) for step in life] == [("made", parents)]


def test_what_is_not_merged(dataset: Dataset, ingest: Ingest) -> None:
    """Another source, another system prompt, a picture shown later, rejected turns, roles out of order."""
    files = {"0.png": saved(picture(0))}

    def turns(*said: str, system: str = "", **more: Any) -> dict[str, Any]:
        named = [("system", system)] * bool(system) + list(zip(("human", "gpt") * 3, said, strict=False))
        return {"image": "0.png", "conversations": [{"from": r, "value": v} for r, v in named], **more}

    records = [
        turns("<image>A?", "A."),
        turns("<image>B?", "B.", source="other"),
        turns("<image>C?", "C.", system="Be brief."),
        turns("D?", "D.", "<image>And?", "So."),
        turns("<image>E?"),
    ]
    raw = ingest(dataset(records, files))
    made = deduped(raw, "text", merge_turns=True)
    assert made.digest == raw.digest and made.document["counts"]["made"] == 0


def test_what_is_withdrawn_is_no_witness(dataset: Dataset, ingest: Ingest) -> None:
    records = [record(None, "Who?", "One."), record(None, "who", "one"), record(None, "Where?", "Here.")]
    raw = ingest(dataset(records, {}))
    forget(raw.store, samples(raw)[0].sample_id.hex(), "asked to")
    made = deduped(Manifest.open(raw.store, "raw"), "text", keep=["first"])
    assert reasons(made) == {"data.json:0": "withdrawn"}


def test_any_order_of_shards_and_workers(
    dataset: Dataset, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{i}.jpg": jpeg(i) for i in range(4)}
    records = [record(f"{i % 4}.jpg", f"Question {i % 5}?" + "?" * (i % 3), f"A {i % 2}") for i in range(60)]
    one = ingest(dataset(records, files), store="a")
    monkeypatch.setattr("infinity_mm.sample_shards.SHARD_ROWS", 7)
    two = ingest(dataset(records[::-1], files, name="turned"), store="b")
    assert len(two.shards) > 3
    first = deduped(one, "text")
    other = deduped(two, "text", workers=2)
    assert {s.sample_id for s in samples(first)} == {s.sample_id for s in samples(other)}
    witnesses = [{(r["sample_id"], r["witness"]) for r in ledger(m)} for m in (first, other)]
    assert witnesses[0] == witnesses[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": ["exakt"]}, "the methods are"),
        ({"by": ["exact,exact"]}, "twice"),
        ({"by": ["text"], "radius": 3}, "--radius would be ignored"),
        ({"by": ["exact"], "jaccard": 0.5}, "--jaccard would be ignored"),
        ({"by": ["text"], "keep": ["bestest"]}, "'bestest': give resolution"),
        ({"by": ["text"], "keep": ["language"]}, "is no number"),
        ({"by": ["text"], "merge_turns": True, "against": ["x"]}, "leave out --against"),
    ],
)
def test_what_would_be_ignored_or_is_wrong_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DedupConfig(manifest="m", out="o", **options)


def test_near_texts_with_the_same_picture(dataset: Dataset, ingest: Ingest) -> None:
    long = "It shows a quiet harbour at dawn with nine boats and two gulls above the long wooden pier"
    files = {"0.png": saved(picture(0))}
    records = [record("0.png", "Describe it.", long), record("0.png", "Describe it.", long + ", far away")]
    raw = ingest(dataset(records, files))
    assert reasons(deduped(raw, "exact", exact_key="bytes")) == {}
    made = deduped(raw, "exact", exact_key="bytes", texts="near", keep=["longest"])
    assert reasons(made) == {"data.json:0": "exact"}


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a store"):
        run(DedupConfig(manifest="m", out="o", by=["text"], store=str(tmp_path / "none")))
    Store.create(tmp_path / "some")
    with pytest.raises(ValueError, match="no manifest 'm'"):
        run(DedupConfig(manifest="m", out="o", by=["text"], store=str(tmp_path / "some")))
