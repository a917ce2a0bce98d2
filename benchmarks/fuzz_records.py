"""Mutated JSON lines, arrays, tars, Parquet and Arrow files: nothing escapes a reader.

    python benchmarks/fuzz_records.py --count 2000 --seed 1

Each round writes a small file, changes some bytes or values, and reads it whole and in small units. Nothing
but records and rejects may come; for JSON Lines one for each line that is not blank; every record can be
normalised and put in Arrow. There is no peer to measure against.
"""

import argparse
import io
import json
import random
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm import schema
from infinity_mm.formats import json_array
from infinity_mm.formats.load_refs import load_refs
from infinity_mm.formats.mapped import parse_map
from infinity_mm.formats.registry import READERS, recognise
from infinity_mm.formats.types import Options, Record, Reject

ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1.5,
        10**400,
        float("nan"),
        "",
        "<image>",
        "\ud800",
        "\0",
        "https://x/y",
        "data:,",
        "a" * 300,
    ),
    *(
        "/9j/" + "A" * 300,
        [],
        {},
        [[]],
        [None],
        {"type": "image"},
        {"type": "text", "text": 5},
        {"url": {"url": []}},
    ),
    *(
        {"from": "gpt", "value": None},
        {"role": "user", "content": [1]},
        ["image"],
        {"bytes": "x"},
        {"path": 3},
    ),
]
FIELDS = [
    "image",
    "images",
    "video",
    "videos",
    "system",
    "rejected",
    "chosen",
    "prompt",
    "source",
    "id",
    "media_order",
]
TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\n",
    b"\xff",
    b"\0",
    b"},{",
    b'{"id":',
    b"\\ud83d",
]
OPTIONS = [Options(), Options(parse_map("image=image,question=q.0,text=a")), Options(source_field="a.b")]


def record(rng: random.Random, number: int) -> dict[str, Any]:
    talk = [{"from": "human", "value": f"<image>\nQ{number} 你"}, {"from": "gpt", "value": "A"}]
    if rng.random() < 0.5:
        made: dict[str, Any] = {"id": number, "image": "a.jpg", "conversations": talk}
    else:
        parts = [{"type": "image"}, {"type": "text", "text": "Q"}]
        made = {"id": number, "images": ["a.jpg"], "messages": [{"role": "user", "content": parts}]}
    while rng.random() < 0.4:
        made[rng.choice(FIELDS)] = rng.choice(ODD)
    while rng.random() < 0.3:
        place: Any = made.get("conversations") or made["messages"]
        if isinstance(place, list) and place and isinstance(place[0], dict):
            place[0][rng.choice(["from", "value", "role", "content", "x"])] = rng.choice(ODD)
    return made


def mutate(rng: random.Random, data: bytes, tokens: bool) -> bytes:
    for _ in range(rng.choice([0, 1, 1, 2, 8])):
        at = rng.randrange(len(data) + 1)
        what = rng.random()
        if what < 0.4:
            data = (
                data[:at] + (rng.choice(TOKENS) if tokens else rng.randbytes(1)) + data[at + (not tokens) :]
            )
        elif what < 0.6:
            data = data[:at] + data[at + rng.randrange(1, 40) :]
        elif what < 0.7:
            data = data[:at]
        else:
            data = (
                data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
                if at < len(data)
                else data
            )
    return data


def lines(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    return mutate(rng, "".join(json.dumps(r) + "\n" for r in rows).encode(), True)


def array(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    return mutate(rng, json.dumps(rows, indent=rng.choice([None, 1])).encode(), True)


def tar(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    ) as made:
        for i, row in enumerate(rows):
            key = "x/" * rng.choice([0, 70]) + str(i)
            for name, data in (
                (f"{key}.json", json.dumps(row).encode()),
                (f"{key}.jpg", b"\xff\xd8\xff" * 9),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
    return mutate(rng, out.getvalue(), False)


def table(rng: random.Random, rows: list[dict[str, Any]]) -> pa.Table:
    pictures = [
        rng.choice([None, {"bytes": b"x" * 50, "path": None}, {"bytes": None, "path": "p"}]) for _ in rows
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    talk = [[{"from": "human", "value": f"Q{i}"}] if rng.random() < 0.8 else None for i in range(len(rows))]
    columns = {
        "image": pa.array(pictures, kind),
        "conversations": talk,
        "a": [str(i) for i in range(len(rows))],
    }
    return pa.table(columns)


def parquet(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table(rng, rows), sink, row_group_size=2)
    return mutate(rng, sink.getvalue().to_pybytes(), False)


def arrow(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    open_: Callable[..., Any] = rng.choice([pa.ipc.new_stream, pa.ipc.new_file])
    made = table(rng, rows)
    with open_(sink, made.schema) as writer:
        writer.write_table(made, max_chunksize=2)
    data: bytes = sink.getvalue().to_pybytes()
    # Arrow's reader trusts the buffers' content, so only the file's length is changed
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.7 else data


MAKERS = {
    "lines": (lines, ("llava", "messages", "mapped")),
    "array": (array, ("llava", "messages", "mapped")),
    "tar": (tar, ("webdataset", "infinity-mm")),
    "parquet": (parquet, ("parquet",)),
    "arrow": (arrow, ("datasets",)),
}


def check(path: Path, format: str, unit_bytes: int, options: Options) -> Counter[str]:
    """Read a file whole; what came, counted."""
    reader = READERS[format]
    count: Counter[str] = Counter()
    for unit in reader.plan(path, unit_bytes):
        for found in reader.read(unit, options):
            if isinstance(found, Reject):
                pa.array([found.reason, found.detail, found.key or ""], pa.string())
                count[found.reason] += 1
                continue
            assert isinstance(found, Record), found
            schema.normalise(found.turns, found.rejected, len(found.refs))
            pa.array(
                [found.meta, found.source or "", found.key or "", *(r.name for r in found.refs)], pa.string()
            )
            json.loads(found.meta)
            list(load_refs([r for r in found.refs if r.how in ("parquet", "arrow")]))
            count["record"] += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="how many files")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started, total = time.perf_counter(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        for i in range(arguments.count):
            rng = random.Random(f"{arguments.seed}/{i}")
            kind = rng.choice(list(MAKERS))
            make, formats = MAKERS[kind]
            data = make(rng, [record(rng, k) for k in range(rng.randrange(1, 7))])
            path.write_bytes(data)
            format, options = rng.choice(formats), rng.choice(OPTIONS)
            try:
                count = check(path, format, 1 << 30, options)
                pieces = check(path, format, rng.randrange(1, 300), options)
                rows_are_certain = kind not in ("lines", "array") or json_array.shape(path) == "lines"
                if rows_are_certain:
                    assert pieces == count, (pieces, count)
                if kind == "lines" and rows_are_certain:
                    wanted = sum(bool(line.strip(b" \t\r\n")) for line in data.split(b"\n"))
                    assert sum(count.values()) == wanted, (count, wanted)
                try:
                    recognise(path)
                except ValueError:
                    total["not recognised"] += 1
            except Exception as error:
                error.add_note(f"--seed {arguments.seed}, file {i}: {kind} read as {format}: {data[:300]!r}")
                raise
            total += count
    took = time.perf_counter() - started
    rate = arguments.count / took
    print(f"{arguments.count} files in {took:.1f} s ({rate:.0f}/s): {dict(total.most_common())}")


if __name__ == "__main__":
    main()
