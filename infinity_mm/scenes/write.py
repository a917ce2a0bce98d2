"""Write the scenes: data.json, truth.jsonl, their pictures and clips, and the benchmark.

Time grows with the number of records (about 2 ms each); memory holds only the plans. data.json and
truth.jsonl are written under the ending .partial and renamed at the end, truth.jsonl last: a folder without
it is incomplete.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from .benchmark import Item, make_benchmark
from .config import ScenesConfig
from .plan import make_plans
from .record import llava_entry, make_record


def _empty_folder(folder: Path) -> None:
    if (folder / "truth.jsonl.partial").exists() and not (folder / "truth.jsonl").exists():
        shutil.rmtree(folder)  # a former run that was stopped
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out: {folder} is not empty; name one that is empty or not there yet")
    folder.mkdir(parents=True, exist_ok=True)


def _text_file(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="\n")


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def make_scenes(config: ScenesConfig, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Write everything the configuration asks for; `progress` is called as (records written, of).

    Returns a summary: records, files and bytes written, and records by kind, medium, language, defect.
    """
    _empty_folder(config.out)
    written = Counter[str]()

    def write(name: str, data: bytes) -> None:
        path = config.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written.update(files=1, bytes=len(data))

    benchmark: list[Item] = []
    if config.defects > 0:
        benchmark = make_benchmark(config)
        for item in benchmark:
            for name, data in item.made.files.items():
                write(name, data)
        entries = [{**llava_entry(item.id, item.made), "category": item.kind} for item in benchmark]
        write("benchmark.json", (_as_json(entries) + "\n").encode())

    plans = make_plans(config)
    counts: dict[str, Counter[str]] = {key: Counter() for key in ("kind", "medium", "language", "defect")}
    data_path, truth_path = config.out / "data.json.partial", config.out / "truth.jsonl.partial"
    with _text_file(data_path) as data_file, _text_file(truth_path) as truth_file:
        for index in range(config.count):
            record = make_record(config, plans, index, benchmark)
            for name, data in record.files.items():
                write(name, data)
            data_file.write(("[\n" if index == 0 else ",\n") + _as_json(record.entry))
            truth_file.write(_as_json(record.truth) + "\n")
            for key in ("kind", "medium", "language"):
                counts[key][record.truth[key]] += 1
            counts["defect"].update(record.truth["defects"])
            if progress:
                progress(index + 1, config.count)
        data_file.write("\n]\n")
    written.update(files=2, bytes=data_path.stat().st_size + truth_path.stat().st_size)
    data_path.rename(config.out / "data.json")
    truth_path.rename(config.out / "truth.jsonl")
    return {
        "out": str(config.out),
        "records": config.count,
        "files": written["files"],
        "bytes": written["bytes"],
        **{key: dict(sorted(counter.items())) for key, counter in counts.items()},
    }
