"""Folders of images and COCO files through ingest: origins, roots, links, and what is read anew."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import reasons, samples, write_folder

from infinity_mm.manifest import Manifest
from infinity_mm.media.shards import read_roots
from infinity_mm.verify import verify

Ingest = Callable[..., Manifest]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make({"sub/a.jpg": 1, "a.txt": "text", ...})`: a folder; a number is the seed of a picture."""

    return lambda files, name="photos": write_folder(tmp_path / name, files)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_a_folder_is_ingested(make: Make, ingest: Ingest, mode: str) -> None:
    folder = make({"train/x.jpg": 1, "train/y.jpg": 2, "z.jpg": 3, "pairs/1.jpg": 4, "pairs/1.txt": "One."})
    rows = [{"file_name": "x.jpg", "text": "X"}, {"file_name": "../z.jpg", "text": "Z"}]
    write_rows(folder / "train/metadata.csv", [*rows, {"file_name": "gone.jpg", "text": "G"}])
    manifest = ingest(folder, mode=mode)
    assert {s.origin: s.names for s in samples(manifest)} == {
        "photos/train/metadata.csv:0": ("x.jpg",),
        "photos/pairs:1.jpg": ("1.jpg",),
    }
    assert reasons(manifest) == {
        "photos:z.jpg": "no_caption",
        "photos/train:y.jpg": "no_caption",
        "photos/train/metadata.csv:1": "path_outside",
        "photos/train/metadata.csv:2": "missing_file",
    }
    if mode == "reference":
        assert [r["path"] for r in read_roots(manifest.store).values()] == [str(folder)]
    assert verify(manifest.store, "raw", media=True)["ok"]


def test_workers_and_units_change_nothing(make: Make, ingest: Ingest) -> None:
    files: dict[str, Any] = {f"{i % 3}/{i}.jpg": i for i in range(12)}
    folder = make(files | {f"{i % 3}/{i}.txt": f"Text {i}." for i in range(12)})
    alone = ingest(folder, out="a", unit_bytes=2048)
    assert ingest(folder, out="b", unit_bytes=2048, workers=2, replace=True).file == alone.file
    assert ingest(folder, out="c").digest == alone.digest


def test_a_grown_folder_is_read_where_it_grew(make: Make, ingest: Ingest) -> None:
    files: dict[str, Any] = {f"{i}.jpg": i for i in range(4)}
    folder = make(files | {f"{i}.txt": f"Text {i}." for i in range(4)})
    first = ingest(folder, unit_bytes=2048)
    pieces = set(first.store.names("work/records"))
    make({"4.jpg": 4, "4.txt": "Text 4."})
    second = ingest(folder, out="more", unit_bytes=2048)
    assert len(samples(second)) == 5
    new = set(second.store.names("work/records")) - pieces
    assert len([n for n in new if n.endswith(".records.arrow")]) == 1
    changed = folder / "0.txt"
    changed.write_text("Text other.")
    os.utime(changed, ns=(1, 1))
    third = ingest(folder, out="changed", unit_bytes=2048)
    assert "Text other." in [s.turns[1].parts[0].text for s in samples(third)]


def test_metadata_that_grows_names_what_was_left_out(make: Make, ingest: Ingest) -> None:
    folder = make({"a.jpg": 1, "b.jpg": 2})
    rows = [{"file_name": "a.jpg", "text": "A"}, {"file_name": "b.jpg", "text": "B"}]
    write_rows(folder / "metadata.csv", rows[:1])
    assert reasons(ingest(folder)) == {"photos:b.jpg": "no_caption"}
    write_rows(folder / "metadata.csv", rows)
    grown = ingest(folder, out="grown")
    assert reasons(grown) == {} and len(samples(grown)) == 2
    make({"c.jpg": 3})
    assert reasons(ingest(folder, out="again")) == {"photos:c.jpg": "no_caption"}


def test_links_stay_in_the_folder(make: Make, ingest: Ingest) -> None:
    folder = make({"1.jpg": 1, "1.txt": "One."})
    elsewhere = make({"2.jpg": 2, "2.txt": "Two."}, "elsewhere")
    os.symlink(elsewhere, folder / "linked")
    os.symlink(folder, folder / "loop")
    os.symlink("self", folder / "self")
    os.symlink(elsewhere / "2.jpg", folder / "3.jpg")
    (folder / "3.txt").write_text("Three.")
    assert reasons(ingest(folder)) == {
        "photos:3.jpg": "path_outside",
        "photos/linked:0": "unrecognised_file",
    }
    followed = ingest(folder, out="followed", follow_links=True, mode="reference")
    assert {s.origin for s in samples(followed)} == {"photos:1.jpg", "photos:3.jpg", "photos/linked:2.jpg"}


def test_a_media_root_is_for_metadata_alone(make: Make, ingest: Ingest) -> None:
    folder = make({"a.jpg": 1})
    path = write_rows(make({"x": "x"}, "lists") / "metadata.csv", [{"file_name": "a.jpg", "text": "A"}])
    assert len(samples(ingest(path, media_root=folder))) == 1
    with pytest.raises(ValueError, match=r"--media-root: the pictures of .*give its metadata file"):
        ingest(path.parent, out="no", media_root=folder)
    with pytest.raises(ValueError, match="no captions"):
        ingest(folder, out="none")


def coco(path: Path, captions: int) -> Path:
    """A file of captions of `captions` annotations over ten pictures that lie in `images` beside it."""
    images = [{"id": i, "file_name": f"images/{i}.jpg"} for i in range(11)]
    annotations = [{"id": n, "image_id": n * 7 % 10, "caption": f"Caption {n}."} for n in range(captions)]
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}))
    return path


def test_coco_is_ingested(make: Make, ingest: Ingest) -> None:
    folder = make({f"images/{i}.jpg": i for i in range(10)}, "coco")
    path = coco(folder / "captions.json", 50)
    alone = ingest(path, out="a", unit_bytes=300)
    assert ingest(path, out="b", unit_bytes=300, workers=2).digest == alone.digest
    assert ingest(path, out="c", mode="reference").digest == alone.digest
    assert reasons(alone) == {"captions.json:images[10]": "no_caption"}
    assert [s.origin for s in samples(alone)] == [f"captions.json:{n}" for n in range(50)]
    assert alone.document["media"][0]["count"] == 10
    coco(path, 60)
    assert len(samples(ingest(path, out="grown"))) == 60
    asked = ingest(path, out="asked", map="question='What is it?',answer=caption")
    assert samples(asked)[0].turns[0].parts[1].text == "What is it?"


def test_files_of_other_tasks_cost_a_row(make: Make, ingest: Ingest) -> None:
    folder = make({f"images/{i}.jpg": i for i in range(10)}, "coco")
    coco(folder / "captions.json", 10)
    other = json.loads((folder / "captions.json").read_text())
    other["annotations"] = [{"id": 1, "image_id": 1, "segmentation": []}]
    (folder / "instances.json").write_text(json.dumps(other))
    manifest = ingest(folder)
    assert reasons(manifest)["coco/instances.json:0"] == "unrecognised_file"
    assert len(samples(manifest)) == 10
