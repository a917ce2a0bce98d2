"""The file of a fingerprint: which shingles are kept, what is written comes back, what is none is refused."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity_mm.fingerprints import (
    COLUMNS,
    COMMON,
    HASHES,
    MOST,
    read_about,
    read_fingerprint,
    telling,
    write_fingerprint,
)
from infinity_mm.shingles import shingle_sets, text_key

ABOUT = {"name": "bench", "sources": {}, "hashes": HASHES, "shingle": 5, "embedder": None}


def table() -> pa.Table:
    """One item with a picture, a clip and what could not be read; another with nothing but an answer."""
    pictures = [
        {"hash": 2**64 - 1, "low": True, "fine": bytes(range(256)), "stills": None},
        {"hash": None, "low": None, "fine": None, "stills": [1, 2, 3, 4]},
        {"hash": None, "low": None, "fine": None, "stills": None},
    ]
    asked = {"question": b"q" * 16, "question_shingles": [5, 7], "answer": None, "answer_shingles": []}
    told = {"question": None, "question_shingles": [], "answer": b"a" * 16, "answer_shingles": [2**63]}
    columns = [[b"1" * 16, b"2" * 16], [pictures, []], [[asked], [told]]]
    arrays = [pa.array(c, t) for c, t in zip(columns, COLUMNS.values(), strict=True)]
    return pa.table(arrays, names=list(COLUMNS))


def written(path: Path, about: dict[str, Any] | None = None) -> str:
    write_fingerprint(str(path), table(), ABOUT | (about or {}))
    return str(path)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    found = read_fingerprint(written(tmp_path / "a.parquet"))
    assert found.name == "bench" and found.about == ABOUT
    assert found.table.to_pylist() == table().to_pylist()
    assert found.sha256 == sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    assert read_fingerprint(written(tmp_path / "b.parquet")).sha256 == found.sha256


def test_any_reader_of_parquet_reads_it(tmp_path: Path) -> None:
    frame = pl.read_parquet(written(tmp_path / "a.parquet"))
    assert frame.columns == list(COLUMNS) and len(frame) == 2
    assert frame["pictures"].list.explode().struct.field("hash").drop_nulls().to_list() == [2**64 - 1]


def test_phrases_of_the_whole_benchmark_are_left_out() -> None:
    ending = " answer with the letter of the right option only"
    texts = [
        f"what does number {i} of the {i * 7} signs in this street say" + ending for i in range(COMMON + 5)
    ]
    sets = shingle_sets(texts)
    kept = telling(sets, np.arange(len(texts)))
    of_ending = set(shingle_sets([ending]).values.tolist())
    assert of_ending <= set(sets.values.tolist())
    assert not of_ending & set(kept.values.tolist())
    assert (kept.sizes() >= 4).all() and (kept.sizes() < sets.sizes()).all()
    # what one text says again and again is still its own
    again = telling(sets.take(np.zeros(40, np.int64)), np.zeros(40, np.int64))
    assert (again.sizes() == sets.sizes()[0]).all()


def test_long_texts_are_sampled_alike() -> None:
    words = [f"w{i}" for i in range(1000)]
    sets = shingle_sets([" ".join(words), " ".join(words[:900]), "too short"])
    kept = telling(sets, np.arange(3))
    assert kept.sizes().tolist() == [MOST, MOST, 0]
    first = kept.values[:MOST]
    assert (first == np.sort(sets.values[: sets.offsets[1]])[:MOST]).all()
    shared = np.isin(first, sets.values[sets.offsets[1] : sets.offsets[2]]).mean()
    assert 0.8 < shared < 0.98, "the share of 896 in 996 is estimated"


def test_hashes_are_those_that_the_version_names() -> None:
    """Who changes what a text hashes to must change HASHES, or old files silently match nothing."""
    assert text_key("What is THIS?").hex() == "2ae5aef70e88c4fc698fec5ad6050665"
    assert shingle_sets(["what is this red thing here"]).values.tolist() == [
        6010542069589241753,
        13203012685533174695,
    ]
    assert HASHES["text"].endswith(", 1")


def test_what_is_no_fingerprint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no fingerprint .*missing.parquet: make it with imm fingerprint"):
        read_about(str(tmp_path / "missing.parquet"))
    (tmp_path / "text").write_text("{}")
    with pytest.raises(ValueError, match="is no fingerprint of a benchmark"):
        read_about(str(tmp_path / "text"))
    pq.write_table(pa.table({"item": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="is Parquet, but no fingerprint"):
        read_about(str(tmp_path / "other.parquet"))
    with pytest.raises(ValueError, match="picture hashes 'dhash', this imm compares"):
        read_about(written(tmp_path / "a.parquet", {"hashes": HASHES | {"picture": "dhash"}}))


def relabelled(path: Path, **metadata: str) -> str:
    found = pq.read_table(path)
    said = dict(found.schema.metadata) | {f"imm.{k}".encode(): v.encode() for k, v in metadata.items()}
    pq.write_table(found.replace_schema_metadata(said), path)
    return str(path)


def test_a_newer_version_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="version 2, this imm reads up to 1: upgrade"):
        read_about(relabelled(tmp_path / "a.parquet", version="2"))
    for about in ("[]", "not json", json.dumps({"name": "x"})):
        digest = sha256(about.encode()).hexdigest()
        with pytest.raises(ValueError, match="is damaged"):
            read_about(relabelled(tmp_path / "a.parquet", version="1", fingerprint=about, sha256=digest))


def test_no_damaged_byte_changes_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    whole = Path(written(path)).read_bytes()
    refused = 0
    for at in range(0, len(whole), 23):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            found = read_fingerprint(str(path))
        except ValueError:
            refused += 1
        else:
            assert found.table.to_pylist() == table().to_pylist() and found.about == ABOUT
    assert refused > 20


def test_wrong_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    odd = table().set_column(0, "item", pa.array(["a", "b"]))
    write_fingerprint(str(path), odd, ABOUT)
    with pytest.raises(ValueError, match="column item is string instead of"):
        read_fingerprint(str(path))
    write_fingerprint(str(path), table(), ABOUT | {"embedder": {"spec": "tiny", "digest": "0"}})
    with pytest.raises(ValueError, match="column embeddings is missing"):
        read_fingerprint(str(path))
