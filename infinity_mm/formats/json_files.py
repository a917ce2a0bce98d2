"""Readers of JSON and JSON Lines files: LLaVA, messages, and records mapped field by field."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infinity_mm.formats import json_array, json_lines, mapped, turns
from infinity_mm.formats.types import Options, Record, Reject, Unit


class JsonReader:
    """Reads a file's values, whatever way it lays them out, and makes records of them one by one."""

    def __init__(self, format: str, record: Callable[[Any, int, str, Options], Record | Reject]) -> None:
        self.format, self.record = format, record

    def plan(self, path: Path, unit_bytes: int) -> list[Unit]:
        if json_array.shape(path) == "lines":
            return json_lines.plan(path, self.format, unit_bytes)
        return json_array.plan(path, self.format, unit_bytes)

    def read(self, unit: Unit, options: Options) -> Iterator[Record | Reject]:
        lines = json_array.shape(unit.path) == "lines"
        values = json_lines.values(unit) if lines else json_array.values(unit)
        for row, value in values:
            yield self.record(value, row, unit.path, options)


def _llava(value: Any, row: int, path: str, options: Options) -> Record | Reject:
    return turns.record_from(value, row, path, options, "llava")


def _messages(value: Any, row: int, path: str, options: Options) -> Record | Reject:
    return turns.record_from(value, row, path, options, "messages")


LLAVA = JsonReader("llava", _llava)
MESSAGES = JsonReader("messages", _messages)
MAPPED = JsonReader("mapped", mapped.record_from)
