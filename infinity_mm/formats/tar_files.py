"""Uncompressed tars: walking their headers without reading what they hold, and writing them fast.

The walk reads one block a member and holds one member.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 512
LONGEST_NAME = 1 << 20
MAGIC_AT, MAGIC = 257, b"ustar"
NO_DATA = {b"1": "link", b"2": "link", b"3": "device", b"4": "device", b"5": "folder", b"6": "device"}


class Member(NamedTuple):
    """`start`: where its headers begin; `kind`: file, link, device, folder, sparse or other."""

    start: int
    name: str
    kind: str
    data: int
    size: int


class Damaged(Exception):
    """The tar is damaged at a byte; `name`: the member whose data is incomplete, if it is that."""

    def __init__(self, at: int, what: str, name: str = "") -> None:
        super().__init__(f"{what} at byte {at}")
        self.name = name


def members(handle: int, start: int, end: int) -> Iterator[Member]:
    """The members whose headers begin in [start, end) of an open file. Raises Damaged, OSError."""
    size = os.fstat(handle).st_size
    at = first = start
    long_name: str | None = None
    pax: dict[str, str] = {}
    while at < size:
        if at == first and first >= end:
            return
        header = os.pread(handle, BLOCK, at)
        if not header.strip(b"\0"):
            at = first = _after_zeros(handle, at, size)
            continue
        if len(header) < BLOCK:
            raise Damaged(at, "the file ends in a header")
        length, kind = _checked(header, at), header[156:157]
        data = at + BLOCK
        if kind in (b"L", b"K", b"x", b"g", b"X"):
            if length > LONGEST_NAME or data + length > size:
                raise Damaged(at, "an extended header is cut off or too long")
            body = os.pread(handle, length, data)
            if kind == b"L":
                long_name = _name(body.split(b"\0", 1)[0])
            elif kind in (b"x", b"X"):
                pax = _pax(body, at)
            at = data + _padded(length)
            continue
        name = pax.get("path") or long_name or _short_name(header)
        if "size" in pax and kind not in NO_DATA:
            if not pax["size"].isdecimal():
                raise Damaged(at, f"a size that is no number ({pax['size']!a:.40})")
            length = int(pax["size"])
        what = NO_DATA.get(kind) or ("file" if kind in (b"0", b"\0", b"7") else "other")
        if kind == b"S":
            what, data = "sparse", _after_sparse_map(handle, header, data)
        elif what == "file" and any(k.startswith("GNU.sparse") for k in pax):
            what = "sparse"
        if what == "file" and name.endswith("/"):
            what = "folder"
        if kind in NO_DATA:
            length = 0
        if data + length > size:
            raise Damaged(at, f"the file ends in {name!a:.100}", name)
        yield Member(first, name, what, data, length)
        at = first = data + _padded(length)
        long_name, pax = None, {}
    if at > size or first != at:
        raise Damaged(size, "the file ends before a member does")


def read(handle: int, member: Member) -> bytes:
    return os.pread(handle, member.size, member.data)


def is_tar(head: bytes) -> bool:
    """Do these first bytes of a file (at least 512) look like a tar's?"""
    if len(head) < BLOCK or not head[:BLOCK].strip(b"\0"):
        return False
    try:
        _checked(head[:BLOCK], 0)
    except Damaged:
        return head[MAGIC_AT : MAGIC_AT + 5] == MAGIC
    return True


def _after_zeros(handle: int, at: int, size: int) -> int:
    """The next block that is not all zeros: members may follow the end mark where tars were joined."""
    while at < size:
        piece = os.pread(handle, 1 << 16, at)
        if rest := piece.lstrip(b"\0"):
            return at + (len(piece) - len(rest)) // BLOCK * BLOCK
        at += len(piece)
    return size


def _checked(header: bytes, at: int) -> int:
    """The size in a header whose checksum is right. Raises Damaged."""
    field = header[148:156]
    total = sum(header) - sum(field) + 8 * 32
    if total != (given := _number(field, at)):
        signed = total - 256 * sum(b > 127 for b in header[:148] + header[156:])
        if signed != given:
            raise Damaged(at, "no valid tar header")
    return _number(header[124:136], at)


def _number(field: bytes, at: int) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40:
            raise Damaged(at, "a negative number in a tar header")
        return value
    try:
        return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        raise Damaged(at, "no valid tar header") from None


def _name(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _short_name(header: bytes) -> str:
    name = _name(header[:100].split(b"\0", 1)[0])
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return f"{_name(prefix)}/{name}" if prefix else name


def _pax(body: bytes, at: int) -> dict[str, str]:
    found: dict[str, str] = {}
    while body.strip(b"\0"):
        digits, space, _ = body[:24].partition(b" ")
        if not space or not digits.isdigit() or not len(digits) + 2 < int(digits) <= len(body):
            raise Damaged(at, "an extended header that cannot be read")
        name, equals, value = body[len(digits) + 1 : int(digits) - 1].partition(b"=")
        if equals:
            found[_name(name)] = _name(value)
        body = body[int(digits) :]
    return found


def _after_sparse_map(handle: int, header: bytes, data: int) -> int:
    more = header[482]
    while more:
        block = os.pread(handle, BLOCK, data)
        if len(block) < BLOCK:
            raise Damaged(data, "the file ends in a sparse map")
        data, more = data + BLOCK, block[504]
    return data


def _padded(length: int) -> int:
    return (length + BLOCK - 1) // BLOCK * BLOCK


_MODE_TO_GID = b"0000644\0" + b"0000000\0" + b"0000000\0"
_TAIL = b"0" + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" + b"0000000\0" + bytes(167)


class TarWriter:
    """Writes members one after another into an open unbuffered file; owner and time are always 0."""

    def __init__(self, handle: int) -> None:
        self.handle, self.size = handle, 0
        self.waiting: list[bytes | memoryview] = []
        self.held = 0

    def add(self, name: str, data: bytes | memoryview) -> None:
        """Add a member. `name`: ASCII, at most 100 characters. Raises OSError."""
        self.waiting += (tar_header(name, len(data)), data)
        if padding := -len(data) % BLOCK:
            self.waiting.append(bytes(padding))
        self.held += len(data)
        self.size += BLOCK + _padded(len(data))
        if self.held > 1 << 20 or len(self.waiting) > 500:
            self.flush()

    def flush(self) -> None:
        write_all(self.handle, self.waiting)
        self.waiting, self.held = [], 0

    def finish(self) -> None:
        """Write the end mark."""
        self.waiting.append(bytes(2 * BLOCK))
        self.size += 2 * BLOCK
        self.flush()


def tar_header(name: str, size: int) -> bytes:
    raw = name.encode("ascii")
    assert len(raw) <= 100, name
    length = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    head = raw.ljust(100, b"\0") + _MODE_TO_GID + length + b"00000000000\0"
    total = sum(head) + sum(_TAIL) + 8 * 32
    return head + b"%06o\0 " % total + _TAIL


def write_all(handle: int, buffers: list[bytes | memoryview]) -> None:
    """Write buffers to a file without copying them, however little one call takes."""
    while buffers:
        some = buffers[:1000]
        wanted = sum(len(b) for b in some)
        done = os.writev(handle, some)
        buffers = buffers[len(some) :]
        if done < wanted:
            rest: list[bytes | memoryview] = []
            for buffer in some:
                if done < len(buffer):
                    rest.append(memoryview(buffer)[done:])
                done = max(done - len(buffer), 0)
            buffers = rest + buffers
