"""Folders saved by `datasets`, Arrow files of its cache, and data sets on the hub ("hf:owner/name").

Files are memory-mapped: a unit is a range of record batches, and the bytes of media are not touched.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from infinity_mm.formats import columns
from infinity_mm.formats.parquet import DAMAGE, damaged
from infinity_mm.formats.types import Options, Record, Reject, Unit

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    return (folder / SPLITS).is_file() or ((folder / STATE).is_file() and (folder / INFO).is_file())


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a saved folder, split after split. Raises ValueError for what cannot be honoured."""
    if (folder / SPLITS).is_file():
        splits = _json(folder / SPLITS).get("splits")
        if not isinstance(splits, list) or not all(isinstance(s, str) for s in splits):
            raise ValueError(f"{folder / SPLITS} has no list of splits")
        return [file for split in splits for file in saved_files(folder / split)]
    state = _json(folder / STATE)
    if any(state.get(key) for key in ("_indices_files", "_indices_data_files", "_indices")):
        raise ValueError(
            f"{folder} was saved with an indices file, which says which rows count: "
            "load it with datasets, call flatten_indices(), save it again and give that"
        )
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(f, dict) and "filename" in f for f in files):
        raise ValueError(f"{folder / STATE} has no list of data files")
    return [folder / str(f["filename"]) for f in files]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is not there: the folder was not saved whole") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value


def hub_files(name: str) -> list[Path]:
    """The Arrow files of a hub data set ("owner/name" or "owner/name:config"), downloaded if need be.

    Raises ValueError, with what to do, where it cannot be had.
    """
    import datasets

    owner_name, _, config = name.partition(":")
    try:
        loaded = datasets.load_dataset(owner_name, config or None)
    except Exception as error:  # whatever the hub's client or a data set's own reader raises
        raise ValueError(
            f"hf:{name} cannot be loaded ({type(error).__name__}: {error}".split("\n")[0][:300]
            + "): where there is a network, save it with datasets.load_dataset(...).save_to_disk(FOLDER) "
            "and give the FOLDER"
        ) from None
    splits = list(loaded.values()) if isinstance(loaded, dict) else [loaded]
    return [Path(file["filename"]) for split in splits for file in split.cache_files]


class DatasetsReader:
    def plan(self, path: Path, unit_bytes: int) -> list[Unit]:
        """Units of about `unit_bytes` of record batches. Raises ValueError, OSError."""
        if str(path).startswith("hf:"):
            files = hub_files(str(path)[3:])
        else:
            files = saved_files(path) if path.is_dir() else [path]
        units: list[Unit] = []
        for file in files:
            start = at = first = rows = held = 0
            try:
                for batch in batches(str(file)):
                    at, rows, held = at + 1, rows + batch.num_rows, held + batch.nbytes
                    if held >= unit_bytes:
                        units.append(Unit(str(file), "datasets", start, at, first))
                        start, first, held = at, rows, 0
            except DAMAGE as error:
                damaged(error)
                at += 1
            if at > start:
                units.append(Unit(str(file), "datasets", start, at, first))
        return units

    def read(self, unit: Unit, options: Options) -> Iterator[Record | Reject]:
        row = max(unit.first, 0)
        try:
            for number, batch in enumerate(islice(batches(unit.path), unit.end)):
                if number >= unit.start:
                    for record in _batch(batch, unit.path, number, row, options):
                        yield record
                        row += 1
        except DAMAGE as error:
            yield Reject(row, "damaged_container", damaged(error))


def batches(path: str) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file or stream. Raises pa.ArrowException, OSError."""
    with pa.memory_map(path) as source:
        if source.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i)
            return
        source.seek(0)
        yield from pa.ipc.open_stream(source)


def _batch(
    batch: pa.RecordBatch, path: str, number: int, row: int, options: Options
) -> Iterator[Record | Reject]:
    found = columns.media_columns(batch.schema)
    media = {c.name: list(columns.entries(batch.column(c.name), c)) for c in found}
    texts = batch.select(columns.text_columns(batch.schema))
    if not texts.num_columns:
        rows: Iterator[Any] = ({} for _ in range(batch.num_rows))
    else:
        pieces = (texts.slice(at, 1000) for at in range(0, batch.num_rows, 1000))
        rows = (values for piece in pieces for values in columns.rows_of(piece))
    for i, values in enumerate(rows):
        own = {c.name: columns.refs(media[c.name][i], c, "arrow", path, number, i) for c in found}
        yield columns.record_from(values, own, row + i, path, options)


DATASETS = DatasetsReader()
