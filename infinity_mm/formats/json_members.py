"""Where the parts of one large JSON object lie, told by its brackets alone, in chunks.

The scan holds one chunk; its time is linear in the file's size. A bracket or quote too many or too few makes
the layout `broken` from there on: the part that was open then ends with the file, so that what can still be
read of it is read.
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.formats import json_array
from infinity_mm.formats.json_array import NEXT, SCAN_BYTES, brackets

KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*$')
KEY_BYTES = 4096


class Layout(NamedTuple):
    """`members`: the bytes between the brackets of each list or object of the top object, by its name.

    `broken`: the byte from which the file is no sound JSON, or -1; the member there then ends with the file.
    """

    members: dict[str, tuple[int, int]]
    broken: int


@lru_cache(maxsize=2)
def layout(path: str, size: int, mtime_ns: int) -> Layout:
    """What the first object of a file of that size and time has in it. Raises OSError.

    A repeated name's last value counts.
    """
    members: dict[str, tuple[int, int]] = {}
    name, last = "", json_array.begin(Path(path))
    with open(path, "rb") as file:
        for where, depth, opens in depths(file, last):
            top = np.flatnonzero(np.where(opens, depth == 2, depth <= 1))
            for at, level, opening in zip(where[top].tolist(), depth[top].tolist(), opens[top], strict=True):
                if opening:
                    found = KEY.search(read_bytes(file, max(last, at - KEY_BYTES), at))
                    if not found:
                        return _open_ended(members, name, size, at)
                    name = found[1].decode(errors="replace")
                    members[name] = (at + 1, size)
                elif level == 1:
                    members[name] = (members[name][0], at)
                elif level == 0 and read_bytes(file, at, at + 1) == b"}":
                    return Layout(members, -1)
                else:
                    return _open_ended(members, name, size, at)
                last = at
    return _open_ended(members, name, size, size)


def _open_ended(members: dict[str, tuple[int, int]], name: str, size: int, broken: int) -> Layout:
    return Layout(members | {name: (members[name][0], size)} if members else members, broken)


def read_bytes(file: Any, start: int, end: int) -> bytes:
    return os.pread(file.fileno(), end - start, start)


def depths(file: Any, start: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each chunk from `start` on: offsets of the brackets outside strings, the depth after each (1 after
    the first that opens), and which of them open."""
    at, depth, quoted = start, 0, False
    while True:
        chunk = read_bytes(file, at, at + SCAN_BYTES)
        # A chunk ends before backslashes, so that what they escape is in one piece with them.
        body = chunk.rstrip(b"\\") or chunk
        if not body:
            return
        data = np.frombuffer(body, np.uint8)
        where, quotes = brackets(data, quoted)
        quoted ^= bool(quotes & 1)
        opens = (data[where] & 2) != 0
        after = depth + np.cumsum(np.where(opens, 1, -1))
        yield where + at, after, opens
        depth = int(after[-1]) if len(after) else depth
        at += len(body)


def cuts(path: Path, start: int, end: int, unit_bytes: int) -> Iterator[int]:
    """Where elements of a list end, every `unit_bytes` or so; none where what follows is no element."""
    last = start
    with open(path, "rb") as file:
        for where, depth, opens in depths(file, start):
            closes = where[(depth == 0) & ~opens & (where < end)]
            while (i := int(np.searchsorted(closes, last + unit_bytes - 1))) < len(closes):
                last = int(closes[i]) + 1
                if last >= end or not NEXT.match(read_bytes(file, last, min(last + 64, end))):
                    return
                yield last
            if len(where) and where[-1] >= end:
                return
