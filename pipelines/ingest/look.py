"""Map step 2 of ingest: look where the named media are; open none of them.

Turns a piece's `<key>.refs.arrow` into `<key>.places.arrow`, row for row: the full path, size and time of
each medium, and a key over all of these, so that the same place has the same key in every piece and a file
that has changed has another; or the reason why it can't be taken in. Done anew in each run. No path leaves
its root: neither by `..`, nor by an absolute path, nor by a symbolic link unless `follow_links`.
"""

import errno
import hashlib
import os
import stat
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from infinity_mm.executor import Guard, Work
from infinity_mm.formats.datasets_folder import batches
from infinity_mm.schema import ID
from infinity_mm.store import Store
from pipelines.ingest.records import clean, piece_files, write_rows

# Why a media file can't be taken in; with formats.types.REASONS all that ingest rejects a record for.
MEDIA_REASONS = {
    "missing_file": "there is no such file",
    "empty_file": "the file has no bytes",
    "not_a_file": "the path is a folder, a device or a pipe",
    "path_outside": "the path leaves the media root",
    "bad_path": "the path is not one (NUL byte, too long)",
    "unreadable_file": "the file can't be read",
    "changed_file": "the file changed while it was being read in",
    "short_file": "the file or tar ends before the medium does",
    "crashed_worker": "reading it killed three workers",
}

PLACES = pa.schema(
    [
        ("key", ID),
        ("how", pa.string()),
        ("path", pa.binary()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("member", pa.string()),
        ("size", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
Row = tuple[Any, ...]


class LookConfig(NamedTuple):
    store: str
    follow_links: bool


class LookUnit(NamedTuple):
    piece: str
    root: str


def places_file(key: str) -> str:
    return f"work/records/{key}.places.arrow"


def open_step(config: LookConfig) -> Work:
    """The map step: LookUnit -> None."""
    store = Store.open(config.store)

    def work(unit: LookUnit, guard: Guard) -> None:
        look = _Look(unit.root, config.follow_links)
        table = store.open_arrow(piece_files(unit.piece)[1]).read_all()
        rows = [look.at(*row) for row in zip(*(c.to_pylist() for c in table.columns), strict=True)]
        write_rows(store, places_file(unit.piece), PLACES, rows)

    return work


class _Look:
    """Remembers what it has found of folders and containers."""

    def __init__(self, root: str, follow_links: bool) -> None:
        self.root = os.path.realpath(root)
        self.follow_links = follow_links
        self._folders: dict[str, str] = {}
        self._containers: dict[str, tuple[int, int]] = {}
        self._rows: dict[str, int] = {}

    def at(self, how: str, raw: bytes, offset: int, length: int, member: str) -> Row:
        if how == "file":
            return self._file(raw)
        if how != "parquet" and how != "arrow" and length == 0:
            return failed("empty_file", "the medium has no bytes")
        if how == "inline":
            return found(how, raw, offset, length, member, length, 0)
        path = os.fsdecode(raw)
        if path not in self._containers:
            status = os.stat(path)
            self._containers[path] = (status.st_size, status.st_mtime_ns)
        size, mtime = self._containers[path]
        if how != "range":
            # A row has no size of its own before it is read: the file's share of it will do for planning.
            if path not in self._rows:
                self._rows[path] = max(1, rows_in(how, path))
            found_row = found(how, raw, offset, length, member, size, mtime)
            return (*found_row[:6], size // self._rows[path], *found_row[7:])
        if offset + length > size:
            return failed("short_file", f"{os.path.basename(path)} ends before the medium does")
        return found(how, raw, offset, length, member, length, mtime)

    def _file(self, raw: bytes) -> Row:
        try:
            written = raw.decode("utf-8", "surrogateescape")
            path = os.path.normpath(os.path.join(self.root, written))
            shown = clean(written)
            if not inside(path, self.root):
                return failed(
                    "path_outside", f"{shown} leads out of the media root: name another with --media-root"
                )
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                real = os.path.realpath(path)
                status = os.stat(path)
            else:
                real = os.path.join(self._folder(os.path.dirname(path)), os.path.basename(path))
        except (FileNotFoundError, NotADirectoryError):
            return failed("missing_file", f"{shown} is not below the media root")
        except ValueError as error:
            return failed("bad_path", f"{clean(repr(raw))}: {error}")
        except OSError as error:
            reason = "bad_path" if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else "unreadable_file"
            return failed(reason, f"{shown}: {error.strerror}")
        if not self.follow_links and not inside(real, self.root):
            return failed(
                "path_outside", f"{shown} is a link out of the media root: --follow-links allows it"
            )
        if not stat.S_ISREG(status.st_mode):
            return failed("not_a_file", f"{shown} is not a regular file")
        if status.st_size == 0:
            return failed("empty_file", f"{shown} has no bytes")
        return found("file", os.fsencode(path), 0, -1, "", status.st_size, status.st_mtime_ns)

    def _folder(self, folder: str) -> str:
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return self._folders[folder]


def rows_in(how: str, path: str) -> int:
    """How many rows a Parquet or Arrow file has."""
    if how == "parquet":
        return int(pq.read_metadata(path).num_rows)
    return sum(batch.num_rows for batch in batches(path))


def inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root if root.endswith("/") else f"{root}/")


def found(how: str, path: bytes, offset: int, length: int, member: str, size: int, mtime_ns: int) -> Row:
    numbers = f"{offset} {length} {size} {mtime_ns}".encode()
    key = hashlib.sha256(b"\0".join([how.encode(), path, numbers, member.encode()])).digest()[:16]
    return (key, how, path, offset, length, member, size, None, None)


def failed(reason: str, detail: str) -> Row:
    return (bytes(16), "", b"", 0, 0, "", 0, reason, detail)
