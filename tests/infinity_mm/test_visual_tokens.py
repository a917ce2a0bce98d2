"""The token sidecar: rows as they were written, small where codes are, damage told."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from inputs import jpeg, record

from infinity_mm.manifest import Manifest
from infinity_mm.media.shards import Shard
from infinity_mm.store import Store
from infinity_mm.visual_tokens import Coding, TokenFile, TokenizerFacts, Tokens, write_tokens
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest

RULE = {"area": 4096, "least": 1, "most": 1 << 20, "factor": 8}


def coding(codebook: int = 512, **rule: int) -> Coding:
    return Coding(TokenizerFacts("ab" * 32, codebook, 8, 4), RULE | rule, {"dtype": "float32"})


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """A media shard of four pictures."""
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
    (tmp_path / "data.json").write_text(json.dumps([record(f"{i}.jpg") for i in range(4)]))
    where = str(tmp_path / "store")
    ingest(IngestConfig(inputs=[str(tmp_path / "data.json")], store=where, out="raw", workers=0))
    library = Manifest.open(Store.open(where), "raw").library()
    [digest] = library.shards()
    return library.shard(digest)


@pytest.mark.parametrize(
    ("codebook", "type"), [(512, pa.uint16()), (65_536, pa.uint16()), (70_000, pa.int32())]
)
def test_rows_come_back_as_they_were_written(shard: Shard, codebook: int, type: pa.DataType) -> None:
    rng = np.random.default_rng(0)
    clip = Tokens(rng.integers(0, codebook, (3, 2, 5)).astype(np.int32), 8.0, 1.5)
    still = Tokens(np.full((1, 4, 2), codebook - 1, np.int32))
    found = {0: still, 1: "too_small: 3 x 3 is 9 pixels", 3: clip}
    name = write_tokens(shard.store, shard, found, coding(codebook))
    file = TokenFile(shard.store, name)
    assert file.facts == coding(codebook).facts and file.rule == RULE and len(file) == 4
    assert file.grids.tolist() == [[1, 4, 2], [0, 0, 0], [0, 0, 0], [3, 2, 5]]
    assert file.errors() == [None, "too_small: 3 x 3 is 9 pixels", None, None]
    assert file.row(1) == file.errors()[1] and file.row(2) is None
    for row, wanted in ((0, still), (3, clip)):
        told = file.row(row)
        assert isinstance(told, Tokens)
        assert told.codes.dtype == np.int32 and (told.codes == wanted.codes).all()
        assert (told.fps, told.duration) == (wanted.fps, wanted.duration)
    schema = shard.store.open_arrow(name).schema
    assert schema.field("codes").type.value_type == type
    assert schema.metadata[b"imm.tokenizer"] == b"ab" * 32
    assert file.value("media_id", 3) == shard.media_id(3)


def test_names_tell_what_the_codes_depend_on(shard: Shard) -> None:
    one = Tokens(np.zeros((1, 2, 2), np.int32))
    whole = dict.fromkeys(range(4), one)
    names = {
        write_tokens(shard.store, shard, whole, coding()),
        write_tokens(shard.store, shard, whole, coding(area=1024)),
        write_tokens(shard.store, shard, whole, coding(256)),
        write_tokens(shard.store, shard, whole, coding()._replace(by={"dtype": "float16"})),
        write_tokens(shard.store, shard, {0: one}, coding()),
        write_tokens(shard.store, shard, whole, coding(), again=[2]),
    }
    assert len(names) == 6
    assert all(name.startswith(f"sidecars/visual_tokens/{shard.digest}-") for name in names)
    assert write_tokens(shard.store, shard, whole, coding()) in names


def test_damage_is_told(shard: Shard) -> None:
    store = shard.store
    name = write_tokens(store, shard, {0: Tokens(np.zeros((1, 2, 2), np.int32))}, coding())
    store.write(name, store.read(name)[:-40])
    with pytest.raises(ValueError, match=r"is damaged: .*delete it, and run `imm tokenize` again"):
        TokenFile(store, name)
    store.delete(name)
    with pytest.raises(ValueError, match="is missing: run `imm tokenize` again"):
        TokenFile(store, name)
