"""Grouping by a 16-byte key in bounded memory: rows go to disk by the first byte of their key.

Time O(N log N); memory is the buffer plus one of 256 buckets, so N/256 rows of the data at hand.
"""

import os
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

KEY = ("key", "u1", (16,))
BUCKETS = 256


class Spill:
    """Fixed-size rows (a structured dtype that begins with KEY), read back bucket by bucket in key order."""

    def __init__(self, dtype: np.dtype[Any], buffer_bytes: int = 32 << 20) -> None:
        self.dtype = dtype
        self.rows = 0
        self._limit = max(1, buffer_bytes // dtype.itemsize)
        self._buffer: list[np.ndarray] = []
        self._buffered = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, **columns: Any) -> None:
        """Add rows given column by column; a scalar stands for every row."""
        rows = np.empty(len(columns["key"]), self.dtype)
        for name, values in columns.items():
            rows[name] = values
        self._buffer.append(rows)
        self._buffered += len(rows)
        self.rows += len(rows)
        if self._buffered > self._limit:
            self._spill()

    def _spill(self) -> None:
        rows = self._drain()
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="imm-spill-")
        rows = rows[np.argsort(rows["key"][:, 0], kind="stable")]
        ends = np.searchsorted(rows["key"][:, 0], np.arange(BUCKETS + 1))
        for bucket in range(BUCKETS):
            part = rows[ends[bucket] : ends[bucket + 1]]
            if len(part):
                with open(os.path.join(self._folder.name, f"{bucket:02x}"), "ab") as file:
                    file.write(part.tobytes())

    def _drain(self) -> np.ndarray:
        rows = np.concatenate(self._buffer) if self._buffer else np.empty(0, self.dtype)
        self._buffer, self._buffered = [], 0
        return rows

    def buckets(self) -> Iterator[np.ndarray]:
        """The rows in key order, equal keys as they were added, some at a time; no key is in two."""
        if self._folder is None:
            yield sort_by_key(self._drain())
            return
        if self._buffered:
            self._spill()
        for bucket in range(BUCKETS):
            path = os.path.join(self._folder.name, f"{bucket:02x}")
            if os.path.exists(path):
                yield sort_by_key(np.fromfile(path, self.dtype))

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._buffer = []
        if self._folder is not None:
            self._folder.cleanup()


def halves(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """16-byte keys (N×16 uint8) as two uint64 arrays whose order is the bytes' order."""
    pairs = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)
    return pairs[:, 0], pairs[:, 1]


def sort_by_key(rows: np.ndarray) -> np.ndarray:
    """Rows in key order; stable."""
    high, low = halves(rows["key"])
    return rows[np.lexsort((low, high))]


def first_of_run(rows: np.ndarray) -> np.ndarray:
    """For rows in key order: the index of the first row with the same key, for each row (int64)."""
    if len(rows) == 0:
        return np.empty(0, np.int64)
    new = np.ones(len(rows), bool)
    new[1:] = (rows["key"][1:] != rows["key"][:-1]).any(axis=1)
    return np.flatnonzero(new)[np.cumsum(new) - 1]
