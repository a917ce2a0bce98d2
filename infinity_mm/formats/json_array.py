"""JSON arrays of any size, and files that are one object after another, read element by element.

The plan scans the file's bytes for brackets outside strings, in chunks, to find where elements end; it
holds one chunk. Reading holds a buffer of a few MB, or one element where that is larger. A damaged
element costs itself: reading goes on at the next place that begins like the elements around it.
"""

import codecs
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from infinity_mm.formats.json_value import DECODER, Bad, malformed, parse_text
from infinity_mm.formats.types import Unit

SCAN_BYTES = 4 << 20
READ_BYTES = 1 << 20
SKIP = re.compile(r"[\s,]*")
END = re.compile(r"[\s,\[\]]*")
FIRST_KEY = re.compile(r'\{\s*"([^"\\]{1,200})"\s*:')
NEXT = re.compile(rb"\s*(?:$|[,\]{])")
BLANK = b" \t\r\n"

LINES_LOOKED_AT = 8


def shape(path: Path | str) -> str:
    """What a JSON file is: "array", "objects" (one after another, over several lines) or "lines"."""
    with open(path, "rb") as file:
        head = file.read(READ_BYTES)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip(BLANK)
    if _stand_alone(text.splitlines(keepends=True)[1 : 1 + LINES_LOOKED_AT]):
        return "lines"
    if text.startswith(b"["):
        return "array"
    if not text.startswith(b"{"):
        return "lines"
    line, newline, rest = text.partition(b"\n")
    if not newline and len(head) == READ_BYTES:
        return "lines"
    found = parse_text(line.decode(errors="replace").strip())
    rest = rest.lstrip(BLANK)
    if not isinstance(found, Bad) or rest.startswith(b"{"):
        return "lines"
    return "objects" if rest or found.detail.startswith("Extra data") else "lines"


def _stand_alone(lines: list[bytes]) -> bool:
    """Whether most whole lines are objects by themselves, whatever the first one looks like."""
    whole = [line.strip() for line in lines if line.endswith(b"\n") and line.strip()]
    objects = [isinstance(parse_text(line.decode(errors="replace")), dict) for line in whole]
    return sum(objects) * 2 > len(objects)


def plan(path: Path, format: str, unit_bytes: int) -> list[Unit]:
    """Units of about `unit_bytes` that begin where an element does, with the number of the first one.

    Where the structure is broken the rest is cut at what looks like the beginning of an element, and
    numbering starts anew in each unit. Raises OSError.
    """
    size = os.stat(path).st_size
    unit_bytes = max(unit_bytes, 1)
    with open(path, "rb") as file:
        start = _begin(file.read(READ_BYTES))
        units: list[Unit] = []
        first = closed = scalars = 0
        last, sound = start - 1, True
        for closes, between in _elements(file, start):
            done = 0
            while (at := done + int(np.searchsorted(closes[done:], start + unit_bytes - 1))) < len(closes):
                cut = int(closes[at]) + 1
                file.seek(cut)
                if cut >= size or not NEXT.match(file.read(64)):
                    sound = cut >= size
                    break
                units.append(Unit(str(path), format, start, cut, first))
                done, start = at + 1, cut
                first = closed + done + scalars + sum(count for before, count in between if before < cut)
            closed += len(closes)
            scalars += sum(count for _, count in between)
            last = int(closes[-1]) if len(closes) else last
            if not sound:
                break
        file.seek(last + 1)
        sound = sound and not file.read(4096).strip(BLANK + b"],")
        if sound or size - start <= 2 * unit_bytes:
            return [*units, Unit(str(path), format, start, size, first)]
        cuts = [start, *_broken_cuts(file, start, size, unit_bytes), size]
    for i, (a, b) in enumerate(itertools.pairwise(cuts)):
        units.append(Unit(str(path), format, a, b, first if i == 0 else -1))
    return units


def begin(path: Path) -> int:
    """Where the first element of a file may begin."""
    with open(path, "rb") as file:
        return _begin(file.read(READ_BYTES))


def _begin(head: bytes) -> int:
    """Where the first element may begin: after the byte order mark, blanks and the opening bracket."""
    body = head.removeprefix(codecs.BOM_UTF8)
    rest = body.lstrip(BLANK)
    return len(head) - len(rest) + rest.startswith(b"[")


def _elements(file: Any, start: int) -> Iterator[tuple[np.ndarray, list[tuple[int, int]]]]:
    """For each chunk the offsets where elements close, and (offset, number of scalars before it) pairs."""
    file.seek(start)
    at, depth, quoted, last_close = start, 0, False, start - 1
    kept = b""
    while chunk := file.read(SCAN_BYTES):
        chunk = kept + chunk
        body = chunk.rstrip(b"\\")
        kept = chunk[len(body) :]
        where, quotes = brackets(np.frombuffer(body, np.uint8), quoted)
        quoted ^= bool(quotes & 1)
        data = np.frombuffer(body, np.uint8)[where]
        step = (data & 2).astype(np.int64) - 1
        level = depth + np.cumsum(step)
        ended = np.flatnonzero(level < 0)
        if len(ended):
            where, step, level = where[: ended[0]], step[: ended[0]], level[: ended[0]]
        opens = where[(level == 1) & (step > 0)] + at
        closes = where[(level == 0) & (step < 0)] + at
        yield closes, _scalars(file, body, at, opens, closes, last_close)
        last_close = int(closes[-1]) if len(closes) else last_close
        if len(ended):
            return
        depth = int(level[-1]) if len(level) else depth
        at += len(body)
        file.seek(at + len(kept))


def brackets(data: np.ndarray, quoted: bool) -> tuple[np.ndarray, int]:
    """Offsets of the brackets and braces outside strings, and the number of quotes that count."""
    quotes = np.flatnonzero(data == 0x22)
    slashes = np.flatnonzero(data == 0x5C)
    if len(slashes) and len(quotes):
        breaks = np.flatnonzero(np.diff(slashes) != 1)
        starts = slashes[np.concatenate(([0], breaks + 1))]
        ends = slashes[np.concatenate((breaks, [len(slashes) - 1]))]
        odd = ends[(ends - starts) % 2 == 0] + 1
        quotes = quotes[~np.isin(quotes, odd, assume_unique=True)]
    where = np.flatnonzero((data | 0x26) == 0x7F)
    found = data[where] | 0x20
    where = where[(found == 0x7B) | (found == 0x7D)]
    inside = (np.searchsorted(quotes, where) + quoted) & 1
    return where[inside == 0], len(quotes)


def _scalars(
    file: Any, body: bytes, at: int, opens: np.ndarray, closes: np.ndarray, last_close: int
) -> list[tuple[int, int]]:
    """Where elements that are no objects or lists lie right before one that is: (its offset, how many)."""
    previous = np.concatenate(([last_close], closes))[np.searchsorted(closes, opens)]
    wide = opens - previous > 3
    found = []
    for a, b in zip(previous[wide].tolist(), opens[wide].tolist(), strict=True):
        if a + 1 >= at:
            gap = body[a + 1 - at : b - at]
        else:
            file.seek(a + 1)
            gap = file.read(b - a - 1)
        if text := gap.strip(BLANK + b","):
            inside = parse_text("[" + text.decode(errors="replace") + "]")
            found.append((b, 1 if isinstance(inside, Bad) else len(inside)))
    return found


def _broken_cuts(file: Any, start: int, size: int, unit_bytes: int) -> Iterator[int]:
    """Cuts in a part whose brackets do not add up: where an object begins with the first element's key."""
    file.seek(0)
    head = file.read(READ_BYTES)
    key = FIRST_KEY.match(head[_begin(head) :].lstrip(BLANK).decode(errors="replace"))
    name = re.escape(key[1].encode()) if key else rb'[^"\\]{1,200}'
    boundary = re.compile(rb'\}\s*,?\s*(?=\{\s*"' + name + rb'"\s*:)')
    at = start + unit_bytes
    while at < size:
        file.seek(at)
        piece = file.read(SCAN_BYTES)
        if found := boundary.search(piece):
            at += found.end()
            yield at
            at += unit_bytes
        else:
            at += max(len(piece) - 1024, 1)


def values(unit: Unit) -> Iterator[tuple[int, Any]]:
    """(row, value or `Bad`) of each element of a unit."""
    row = max(unit.first, 0)
    with open(unit.path, "rb") as file:
        for value in _Elements(file, unit.start, unit.end).values():
            yield row, value
            row += 1


class _Elements:
    """The elements in a byte range: `text[at:]` is what was read and not yet parsed."""

    def __init__(self, file: Any, start: int, end: int) -> None:
        self.file, self.left = file, end - start
        file.seek(start)
        self.decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self.text, self.at = "", 0
        self.keys: set[str] = set()
        if start == 0:
            self.fill()
            self.text = self.text.removeprefix("\ufeff")

    def fill(self) -> bool:
        """Read as much again as is held; False at the end of the range."""
        if self.left <= 0:
            return False
        data = self.file.read(min(self.left, max(READ_BYTES, len(self.text) - self.at)))
        self.left = self.left - len(data) if data else 0
        self.text = self.text[self.at :] + self.decode(data, final=self.left <= 0)
        self.at = 0
        return True

    def values(self) -> Iterator[Any]:
        while True:
            blank = SKIP.match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at >= len(self.text):
                if self.fill():
                    continue
                return
            if self.text[self.at] == "]":
                yield from self.after_end()
                continue
            start = self.at
            try:
                value, end = DECODER.raw_decode(self.text, start)
            except (ValueError, RecursionError) as error:
                if self.cut_short(error) and self.fill():
                    continue
                bad = malformed(error, start)
                if not self.resume():
                    bad = Bad(bad.reason, f"{bad.detail}, and no further element was found")
                yield bad
                continue
            if end == len(self.text) and self.fill():
                continue
            self.at = end
            if isinstance(value, dict) and len(self.keys) < 16:
                self.keys.update(list(value)[:1])
            yield self.checked(value, start, end)

    def after_end(self) -> Iterator[Bad]:
        """Pass over a closing bracket. What follows it must be blank, but is read if it is not."""
        while True:
            end = END.match(self.text, self.at)
            self.at = end.end() if end else self.at
            if self.at < len(self.text):
                break
            if not self.fill():
                return
        yield Bad("malformed_json", f"text after the end of the array: {self.text[self.at : self.at + 40]!a}")
        if self.text[self.at] != "{":
            self.resume()

    def cut_short(self, error: Exception) -> bool:
        """May the error come from the buffer's end and not from the file?"""
        if isinstance(error, json.JSONDecodeError):
            return error.msg.startswith("Unterminated string") or len(self.text) - error.pos < 64
        return False

    def resume(self) -> bool:
        """Go on where the next element seems to begin; False where none is found."""
        own = FIRST_KEY.match(self.text, self.at)
        names = {re.escape(key) for key in self.keys} | ({re.escape(own[1])} if own else set())
        key = "|".join(sorted(names)) or r'[^"\\]{1,200}'
        boundary = re.compile(r"\}\s*,?\s*(?=\{\s*\"(?:" + key + r")\"\s*:)")
        self.at += 1
        while not (found := boundary.search(self.text, self.at)):
            self.at = max(self.at, len(self.text) - 1024)
            if not self.fill():
                self.at = len(self.text)
                return False
        self.at = found.end()
        return True

    def checked(self, value: Any, start: int, end: int) -> Any:
        """The value, or what is wrong with its bytes."""
        raw = self.text[start:end]
        if raw.isascii():
            return value
        try:
            raw.encode()
        except UnicodeEncodeError as error:
            return Bad("malformed_json", f"not UTF-8 at character {error.start} of the element")
        return value
