"""`imm fingerprint` and `imm decontaminate` on small pictures: what is found, what stays, what is said."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inputs import ledger, reasons, record, samples
from PIL import Image, ImageDraw
from pydantic import ValidationError

from infinity_mm.fingerprints import read_fingerprint
from infinity_mm.manifest import Manifest
from infinity_mm.scenes.draw import encode_clip
from infinity_mm.scenes.draw import picture as drawing
from infinity_mm.scenes.world import draw_clip, draw_shapes
from infinity_mm.store import Store
from infinity_mm.verify import verify
from infinity_mm.withdraw import forget
from pipelines.decontaminate.config import DecontaminateConfig
from pipelines.decontaminate.stage import run
from pipelines.fingerprint import FingerprintConfig
from pipelines.fingerprint import run as run_fingerprint
from pipelines.recipe import RecipeConfig
from pipelines.recipe import run as run_recipe

Dataset = Callable[..., Path]
Ingest = Callable[..., Manifest]

LONG = "Which of the seven boats in the old harbour is about to leave for the island with the lighthouse?"
STORY = (
    "The small red boat beside the stone pier, whose crew has just pulled up the anchor, leaves first today."
)


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture of soft blobs: it survives compression and scaling, and no two seeds are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def page(seed: int) -> Image.Image:
    """A page of one layout: lines of words that differ."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (480, 640), "white")
    pen = ImageDraw.Draw(image)
    for y in range(30, 600, 50):
        for x in range(30, 420, 40):
            pen.rectangle((x, y, x + int(draw.integers(4, 34)), y + 20), fill="black")
    return image


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def worse(image: Image.Image) -> bytes:
    return saved(image.resize((image.width * 3 // 4, image.height * 3 // 4)), "JPEG", quality=60)


class World:
    """A store, with `bench` in fingerprints and `train` in a manifest."""

    def __init__(self, tmp_path: Path, dataset: Dataset, ingest: Ingest) -> None:
        self.path, self.dataset, self.ingest = tmp_path, dataset, ingest

    def bench(self, records: list[Any], files: dict[str, bytes], name: str = "bench", **options: Any) -> str:
        manifest = self.ingest(self.dataset(records, files, name=name), out=name)
        self.said = self.fingerprint(manifest, name, **options)
        return str(self.said["out"])

    def fingerprint(self, manifest: Manifest, name: str, **options: Any) -> dict[str, Any]:
        out = str(self.path / f"{name}.parquet")
        config = FingerprintConfig(
            manifest=name, store=manifest.store.url, **{"out": out, "workers": 0, **options}
        )
        return run_fingerprint(config)

    def train(self, records: list[Any], files: dict[str, bytes]) -> Manifest:
        return self.ingest(self.dataset(records, files, name="train"))

    def clean(self, raw: Manifest, *files: str, **options: Any) -> Manifest:
        config = DecontaminateConfig(
            manifest=raw.file,
            store=raw.store.url,
            against=list(files),
            **{"out": "clean", "workers": 0, "replace": True, **options},
        )
        self.told = run(config)
        made = Manifest.open(raw.store, self.told["manifest"])
        counts = made.document["counts"]
        assert counts["in"] == counts["kept"] + counts["dropped"] + counts["failed"] == raw.samples
        assert made.samples == counts["kept"] and counts["made"] == 0
        ids = {bytes(i) for f in files for i in read_fingerprint(f).table.column("item").to_pylist()}
        for row in ledger(made):
            if row["reason"].startswith("leak:"):
                assert row["witness"] in ids and row["value"] and row["limit"]
                assert re.match(r"picture and text|picture|text", row["detail"])
        assert verify(made.store, made.file, media=False)["ok"]
        return made

    def dropped(self, raw: Manifest, *files: str, **options: Any) -> list[int]:
        """The places of the records that are dropped."""
        return sorted(
            int(origin.rpartition(":")[2]) for origin in reasons(self.clean(raw, *files, **options))
        )


@pytest.fixture
def world(tmp_path: Path, dataset: Dataset, ingest: Ingest) -> World:
    return World(tmp_path, dataset, ingest)


def test_by_picture_and_question_by_either(world: World) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(2)}
    bench = world.bench([record("0.png", LONG, "The red one."), record("1.png", "How many?", "Two.")], files)
    more = {"copy.jpg": worse(picture(0)), "other.png": saved(picture(9)), "second.jpg": worse(picture(1))}
    raw = world.train(
        [
            record("copy.jpg", LONG + " Tell me in one word.", "Red."),  # 0: both
            record("copy.jpg", "What colour is it?", "Red."),  # 1: the picture
            record("other.png", LONG, "The blue one."),  # 2: the question
            record("other.png", "How many?", "Two."),  # 3: a question that anyone asks
            record("second.jpg", "how many", "2"),  # 4: both, the question exactly
            record(None, "How many?", "Two."),  # 5
            record("second.jpg", "How many of them?", "2"),  # 6: the picture
        ],
        more,
    )
    assert world.dropped(raw, bench) == [0, 4]
    (told,) = world.told["benchmarks"]
    assert told["samples"] == {"both": 2, "image": 4, "text": 2}
    assert (told["items"], told["leaked"], told["dropped"], told["too_short"]) == (2, 2, 2, 1)
    rows = {row["origin"]: row for row in ledger(world.clean(raw, bench))}
    first = rows["data.json:0"]
    items = [s.sample_id for s in samples(Manifest.open(raw.store, "bench"))]
    assert (first["reason"], first["witness"], first["limit"]) == ("leak:bench", items[0], "8")
    assert 0 <= int(first["value"]) <= 8
    assert first["detail"] == f"picture and text: a picture {first['value']} bits from the item's, " + (
        "100% of the item's question"
    )
    assert world.dropped(raw, bench, by="image") == [0, 1, 4, 6]
    assert world.dropped(raw, bench, by="text") == [0, 2]
    made = world.clean(raw, bench, by="text")
    assert ledger(made)[0]["value"] == "1" and ledger(made)[0]["limit"] == "0.8"
    assert not {"photometry", "hash"} & {s["family"] for s in made.document["sidecars"]}, "no picture is seen"


def test_a_short_or_common_question_counts_with_its_answer(world: World) -> None:
    items = [record(f"{i}.png", "What happens here?", f"{i} {STORY}") for i in range(2)]
    items.append(record("2.png", LONG, "Yes."))
    bench = world.bench(items, {f"{i}.png": saved(picture(i)) for i in range(3)})
    files = {f"t{i}.png": saved(picture(20 + i)) for i in range(5)}
    raw = world.train(
        [
            record("t0.png", "What happens here?", f"1 {STORY}"),
            record("t0.png", "What happens here?", "A boat leaves."),
            record("t0.png", "Tell me more.", f"1 {STORY}"),
            *(record(f"t{i}.png", LONG, f"{i}") for i in range(5)),
        ],
        files,
    )
    assert world.dropped(raw, bench, by="text") == [0, 3, 4, 5, 6, 7]
    assert ledger(world.clean(raw, bench, by="text"))[0]["detail"] == "text: 100% of the item's answer"
    assert world.dropped(raw, bench, by="text", most_pictures=4) == [0]
    (told,) = world.told["benchmarks"]
    assert (told["too_common"], told["too_short"]) == (1, 0)
    assert world.dropped(raw, bench, by="text", least_shingles=40) == []
    assert world.told["benchmarks"][0]["too_short"] == 3


def test_items_without_pictures_are_compared_with_samples_without(world: World) -> None:
    files = {"0.png": saved(picture(0))}
    items = [record(None, LONG, "The red one."), record(None, "2 + 2?", "4"), record("0.png", STORY)]
    bench = world.bench(items, files)
    raw = world.train(
        [record(None, LONG), record("0.png", LONG), record(None, "2 + 2?", "4"), record(None, STORY)], files
    )
    assert world.dropped(raw, bench) == [0]
    assert world.dropped(raw, bench, by="image") == [1]
    assert world.dropped(raw, bench, by="text") == [0, 1, 3]


def test_any_picture_and_any_question_leaks(world: World) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(4)}
    turns = [("human", "<image>\n<image>\nWhat is this?"), ("gpt", "A."), ("human", LONG), ("gpt", "B.")]
    item = {
        "image": ["0.png", "1.png"],
        "conversations": [{"from": who, "value": text} for who, text in turns],
    }
    bench = world.bench([item], files)
    turns = [("human", "<image>\n<image>\nHello?"), ("gpt", "A."), ("human", LONG), ("gpt", "B.")]
    several = {
        "image": ["3.png", "1.png"],
        "conversations": [{"from": who, "value": text} for who, text in turns],
    }
    raw = world.train([several, record("2.png", LONG), record("0.png", "What is this?")], files)
    assert world.dropped(raw, bench) == [0, 2]


def test_pages_of_one_layout_are_told_apart(world: World) -> None:
    pages = {f"{i}.png": saved(page(i)) for i in range(6)}
    bench = world.bench([record(name, "What does it say?") for name in list(pages)[:3]], pages)
    raw = world.train(
        [record(f"{i}.jpg", "What does it say?") for i in range(6)],
        {f"{i}.jpg": worse(page(i)) for i in range(6)},
    )
    for by in ("both", "image"):
        assert world.dropped(raw, bench, by=by, radius=20) == [0, 1, 2]


def test_blank_pictures_are_no_evidence_of_one_another(world: World) -> None:
    colours = {c: saved(Image.new("RGB", (64, 64), c)) for c in ("red", "blue", "black")}
    bench = world.bench([record("red.png")], {"red.png": colours["red"]})
    raw = world.train([record(f"{c}.png") for c in colours], {f"{c}.png": d for c, d in colours.items()})
    assert world.dropped(raw, bench, by="image") == [0]


def test_clips(world: World) -> None:
    clips = [encode_clip(draw_clip(np.random.default_rng(seed), 64)) for seed in (3, 0, 1, 2)]
    files = {f"{i}.mp4": data for i, data in enumerate(clips)}

    def asks(name: str) -> dict[str, Any]:
        said = [{"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "It."}]
        return {"video": name, "conversations": said}

    bench = world.bench([asks("1.mp4"), asks("2.mp4")], files)
    (entry,), (blank,) = read_fingerprint(bench).table.column("pictures").to_pylist()
    assert entry["hash"] is None and len(entry["stills"]) == 4
    assert (entry["low"], blank["low"]) == (False, True)
    raw = world.train([asks(f"{i}.mp4") for i in range(4)], files)
    assert world.dropped(raw, bench) == [1, 2]
    assert world.dropped(raw, bench, by="image") == [1], "a blank one alone is no evidence"


def test_embeddings(world: World) -> None:
    drawn = [drawing(draw_shapes(np.random.default_rng(seed), 64, 3)) for seed in range(3)]
    scene = {f"{i}.png": saved(image) for i, image in enumerate(drawn)}
    items = [record("0.png", "Who is it?")]
    bench = world.bench(items, scene, embeddings=True, embedder="tiny")
    cut = {"cut.png": saved(drawn[0].crop((3, 2, 62, 61)))}
    raw = world.train([record("0.png"), record("cut.png", "Who is it?"), record("2.png")], scene | cut)
    assert world.dropped(raw, bench, by="image", radius=0) == [0]
    assert world.dropped(raw, bench, by="image", radius=0, cosine=0.999995) == [0]
    assert world.dropped(raw, bench, radius=0, cosine=0.5) == [1], "with the question"
    (row,) = ledger(world.clean(raw, bench, radius=0, cosine=0.5))
    assert re.fullmatch(
        r"picture and text: a picture of cosine (0\.\d{4}) to the item's, 100% .*", row["detail"]
    )
    assert row["value"] in row["detail"] and row["limit"] == "0.5"
    plain = world.bench(items, scene, name="plain")
    with pytest.raises(ValueError, match=r"plain.parquet has no embeddings: make it again with --embeddings"):
        world.clean(raw, plain, cosine=0.9)


def test_several_benchmarks(world: World) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(3)}
    first = world.bench([record("0.png", "Who?"), record("1.png", "Who?")], files, name="first")
    second = world.bench([record("0.png", "Who?"), record("2.png", "Why?")], files, name="second")
    raw = world.train([record(f"{i}.png", "Who?") for i in range(3)], files)
    made = world.clean(raw, first, second)
    assert reasons(made) == {"data.json:0": "leak:first", "data.json:1": "leak:first"}
    assert [row["others"] for row in ledger(made)] == [["leak:second"], []]
    assert [(b["leaked"], b["dropped"], b["samples"]["both"]) for b in world.told["benchmarks"]] == [
        (2, 2, 2),
        (1, 0, 1),
    ]
    assert [b["name"] for b in made.document["decontaminate"]["benchmarks"]] == ["first", "second"]


def test_what_can_not_be_read_is_failed(world: World) -> None:
    files = {"0.png": saved(picture(0)), "1.png": saved(picture(1))}
    bench = world.bench([record("0.png"), record("cut.png", LONG)], files | {"cut.png": files["1.png"][:-99]})
    assert (world.said["kept"], world.said["failed"], world.said["unreadable"]) == (2, 0, 1)
    assert world.said["problems"][0]["error"].startswith("truncated")
    assert "can't be read" in world.said["note"]
    raw = world.train(
        [record("0.png"), record("cut.png"), record("1.png", LONG)], files | {"cut.png": files["0.png"][:-99]}
    )
    made = world.clean(raw, bench)
    assert reasons(made) == {"data.json:0": "leak:bench", "data.json:1": "truncated"}
    assert made.document["counts"]["failed"] == 1
    assert reasons(world.clean(raw, bench, by="text")) == {"data.json:2": "leak:bench"}


def test_an_item_of_which_nothing_is_known_is_failed(world: World) -> None:
    cut = saved(picture(1))[:-99]
    bench = world.bench([record("cut.png", "", ""), record("cut.png", "Why?", "")], {"cut.png": cut})
    assert (world.said["in"], world.said["kept"], world.said["failed"]) == (2, 1, 1)
    assert read_fingerprint(bench).table.num_rows == 1


def test_no_word_and_no_picture_is_in_the_file(world: World) -> None:
    files = {f"{i}.png": saved(page(i)) for i in range(3)} | {"clip.png": saved(picture(0))}
    records = [record(name, LONG, STORY) for name in files]
    data = Path(world.bench(records, files)).read_bytes()
    words = set(re.findall(r"[a-z]{5,}", (LONG + STORY).lower())) | {"png"}
    assert len(words) > 10
    assert not [word for word in words if word.encode() in data.lower()]
    for magic in (b"PNG", b"JFIF", b"IDAT"):
        assert magic not in data
    rows = [
        row
        for of in read_fingerprint(str(world.path / "bench.parquet")).table.column("pictures").to_pylist()
        for row in of
    ]
    assert sum(row["low"] for row in rows) == 3 and len(rows[0]["fine"]) == 256


def test_the_same_bytes_again_and_a_name_that_is_taken(world: World) -> None:
    files = {"0.png": saved(picture(0))}
    bench = Path(world.bench([record("0.png", LONG)], files))
    data, manifest = bench.read_bytes(), Manifest.open(Store.open(world.path / "store"), "bench")
    world.fingerprint(manifest, "bench", workers=2)
    assert bench.read_bytes() == data
    with pytest.raises(ValueError, match="is there and holds something else: give --replace"):
        world.fingerprint(manifest, "bench", shingle=4)
    world.fingerprint(manifest, "bench", shingle=4, replace=True)
    assert read_fingerprint(str(bench)).about["shingle"] == 4
    with pytest.raises(ValueError, match="there is no folder"):
        world.fingerprint(manifest, "bench", out=str(world.path / "no" / "x.parquet"))
    with pytest.raises(ValueError, match="name the benchmark with --name"):
        run_fingerprint(FingerprintConfig(manifest=manifest.file, store=manifest.store.url, out="x"))


def test_fingerprints_that_do_not_fit_are_refused(world: World) -> None:
    files = {"0.png": saved(picture(0))}
    one = world.bench([record("0.png", LONG)], files, name="one")
    two = world.bench([record("0.png", LONG)], files, name="two", shingle=4)
    raw = world.train([record("0.png")], files)
    with pytest.raises(ValueError, match=r"shingles of 5 tokens, .*two.parquet of 4: make one again"):
        world.clean(raw, one, two)
    with pytest.raises(ValueError, match="are both named 'one'"):
        world.clean(raw, one, one)
    with pytest.raises(ValueError, match=r"no fingerprint missing.parquet"):
        world.clean(raw, "missing.parquet")


def test_any_workers_the_same_manifest_and_a_dry_run_none(world: World) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(4)}
    bench = world.bench([record("0.png", LONG)], files)
    raw = world.train([record(f"{i % 4}.png", LONG, f"{i}") for i in range(12)], files)
    alone = world.clean(raw, bench)
    assert world.clean(raw, bench, workers=2).document == alone.document
    before = raw.store.names("manifests")
    config = DecontaminateConfig(
        manifest=raw.file, store=raw.store.url, against=[bench], workers=0, dry_run=True
    )
    told = run(config)
    assert told["dry_run"] and told["dropped"] == 3 and raw.store.names("manifests") == before
    assert told["benchmarks"] == alone.document["decontaminate"]["benchmarks"]


def test_what_is_withdrawn_is_in_neither(world: World) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(2)}
    world.bench([record(f"{i}.png", "Who?") for i in range(2)], files)
    store = Store.open(world.path / "store")
    raw = world.train([record(f"{i}.png", "Who?", "Me.") for i in range(2)], files)
    forget(store, samples(Manifest.open(store, "bench"))[0].sample_id.hex(), "asked")
    said = world.fingerprint(Manifest.open(store, "bench"), "bench", replace=True)
    assert said["in"] == said["kept"] == 1
    assert reasons(world.clean(raw, said["out"])) == {"data.json:1": "leak:bench"}
    forget(store, samples(raw)[1].sample_id.hex(), "asked")
    assert reasons(world.clean(raw, said["out"])) == {"data.json:1": "withdrawn"}


def test_in_a_recipe_and_again_when_the_file_changes(world: World) -> None:
    files = {f"{i}.png": saved(picture(i)) for i in range(2)}
    world.bench([record("0.png", "Who?")], files)
    world.train([record(f"{i}.png", "Who?", "Me.") for i in range(2)], files)
    stages: list[dict[str, Any]] = [
        {"fingerprint": {"manifest": "bench", "out": str(world.path / "b.parquet")}},
        {"decontaminate": {"manifest": "raw", "against": [str(world.path / "b.parquet")], "out": "clean"}},
    ]
    recipe = world.path / "recipe.yaml"

    def skipped() -> list[bool]:
        recipe.write_text(json.dumps({"store": str(world.path / "store"), "workers": 0, "stages": stages}))
        return [stage["skipped"] for stage in run_recipe(RecipeConfig(recipe=recipe, replace=True))["stages"]]

    assert skipped() == [False, False]
    assert skipped() == [False, True]
    stages[0]["fingerprint"]["shingle"] = 4
    assert skipped() == [False, False]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"by": "text", "radius": 4}, "--radius would be ignored: it is of --by both and image, not of text"),
        ({"by": "image", "overlap": 0.5}, "--overlap would be ignored"),
        ({"embedder": "tiny"}, "--embedder would be ignored: give --cosine"),
        ({"out": None}, "--out is missing"),
        ({"against": []}, "at least 1"),
        ({"radius": 65}, "less than or equal to 32"),
    ],
)
def test_wrong_options(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        DecontaminateConfig(**{"manifest": "raw", "against": ["b"], "out": "x", **options})
    if "embedder" in options:
        with pytest.raises(ValidationError, match="give --embeddings"):
            FingerprintConfig(manifest="b", out="x", embedder="tiny")
