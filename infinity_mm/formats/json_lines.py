"""JSON Lines: one value a line, cut into byte ranges at newlines.

Planning seeks to each cut and reads to the next newline, so it costs nothing to speak of; reading keeps
one line in memory.
"""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infinity_mm.formats.json_value import parse
from infinity_mm.formats.types import Unit

BLANK = b" \t\r\n"


def plan(path: Path, format: str, unit_bytes: int) -> list[Unit]:
    """Units of about `unit_bytes`, each beginning where a line does. Raises OSError."""
    size = os.stat(path).st_size
    units: list[Unit] = []
    start = 0
    with open(path, "rb") as file:
        while start < size:
            end = start + max(unit_bytes, 1)
            if end < size:
                file.seek(end - 1)
                while (piece := file.readline(1 << 20)) and not piece.endswith(b"\n"):
                    pass
                end = file.tell()
            units.append(Unit(str(path), format, start, min(end, size)))
            start = end
    return units


def values(unit: Unit) -> Iterator[tuple[int, Any]]:
    """(row, value or `Bad`) of each line that is not blank; rows count from 0 unless the unit says more."""
    row = max(unit.first, 0)
    with open(unit.path, "rb") as file:
        at = unit.start
        file.seek(at)
        if at == 0 and file.peek(3)[:3] == codecs.BOM_UTF8:
            at = file.seek(3)
        for line in file:
            if at >= unit.end:
                return
            at += len(line)
            line = line.strip(BLANK)
            if line:
                yield row, parse(line)
                row += 1
