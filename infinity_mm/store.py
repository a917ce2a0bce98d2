"""The store: a folder (or any fsspec URL) of immutable files named by their content.

    media/      media shards: a table of what each medium is
    bytes/      the media's bytes, one Arrow file a shard (copy mode)
    locations/  root, path, offset, length of each medium of a shard (reference mode); no digest covers them
    index/      media index parts, sorted by id
    samples/    sample shards            sidecars/   measures, a file per (shard, family)
    ledgers/    what was not kept, why   origins/    every further source of a repeated sample
    manifests/  <digest>-<provenance>.json            refs/       NAME -> manifest
    tombstones/ what was withdrawn       roots.json  where reference-mode files lie
    runs/       which stage with which parents made which manifest, so that `imm run` can skip it
    work/       finished pieces of runs under way, so that a killed run goes on

Writers cannot hurt each other: a file is written under a temporary name, flushed and renamed. Only
changing a ref and deleting (`gc`) take a lock. On an object store a file is one completed PUT.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

FORMAT_VERSION = 1
MARK = "store.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class StoreError(ValueError):
    """The store is not there, not a store, of a newer version, or in use."""


class Store:
    """`url`: a local folder or an fsspec URL (s3://…, gs://…, memory://…)."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url).rstrip("/") or "/"
        self.local = "://" not in self.url
        self._held: int | None = None
        if self.local:
            self.root = os.path.abspath(self.url)
        else:
            import fsspec

            self.fs, self.root = fsspec.core.url_to_fs(self.url)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    # opening

    @classmethod
    def open(cls, url: str | Path) -> "Store":
        """Open an existing store. Raises StoreError where there is none."""
        store = cls(url)
        try:
            mark = json.loads(store.read(MARK))
        except FileNotFoundError:
            raise StoreError(
                f"{store.url} is not a store (no {MARK}): name one with --store, or make one with imm ingest"
            ) from None
        if mark.get("format") != "imm-store" or not isinstance(mark.get("version"), int):
            raise StoreError(f"{store.url}/{MARK} is not a store's: {mark!r:.80}")
        if mark["version"] > FORMAT_VERSION:
            raise StoreError(
                f"{store.url} has store version {mark['version']}, this imm reads up to {FORMAT_VERSION}: "
                "upgrade infinity-mm"
            )
        return store

    @classmethod
    def create(cls, url: str | Path) -> "Store":
        """Open a store, making it if the folder is empty or absent. Raises StoreError for another folder."""
        store = cls(url)
        if not store.exists(MARK):
            if store.local and os.path.isdir(store.root):
                found = [n for n in os.listdir(store.root) if n != "tmp" and not n.startswith("lock")]
                if found:
                    raise StoreError(
                        f"{store.url} is a folder with other files ({found[0]} …): name an empty or new one"
                    )
            store.write(MARK, json.dumps({"format": "imm-store", "version": FORMAT_VERSION}).encode() + b"\n")
        return cls.open(url)

    # files

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name)) if self.local else bool(self.fs.exists(self.path(name)))

    def size(self, name: str) -> int:
        """Bytes; raises FileNotFoundError."""
        return os.stat(self.path(name)).st_size if self.local else int(self.fs.size(self.path(name)))

    def names(self, folder: str) -> list[str]:
        """Sorted names (with the folder) of the files right below `folder`; temporary ones are left out."""
        if self.local:
            try:
                names = os.listdir(self.path(folder))
            except FileNotFoundError:
                return []
        else:
            self.fs.invalidate_cache()
            if not self.fs.exists(self.path(folder)):
                return []
            names = [str(n).rsplit("/", 1)[-1] for n in self.fs.ls(self.path(folder), detail=False)]
        return [f"{folder}/{n}" for n in sorted(names)]

    def read(self, name: str) -> bytes:
        if self.local:
            with open(self.path(name), "rb") as file:
                return file.read()
        return bytes(self.fs.cat_file(self.path(name)))

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        if not self.local:
            return bytes(self.fs.cat_file(self.path(name), start=offset, end=offset + length))
        return read_range(self.path(name), offset, length)

    def write(self, name: str, data: bytes) -> None:
        """Publish a small file whole; an existing one is replaced."""
        if not self.local:
            self.fs.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            self.fs.pipe_file(self.path(name), data)
            return
        with self.scratch() as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
            self.publish(temporary, name)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """A temporary path to build a file at; what is left there at the end is deleted."""
        folder = self.path("tmp") if self.local else tempfile.gettempdir()
        os.makedirs(folder, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=folder, prefix=f"{os.getpid()}-")
        os.close(handle)
        try:
            yield path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def publish(self, temporary: str, name: str) -> None:
        """Give a finished local file its name: flush, then rename (or one PUT)."""
        if not self.local:
            self.fs.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            self.fs.put_file(temporary, self.path(name))
            return
        target = self.path(name)
        handle = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.chmod(temporary, 0o644)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(temporary, target)
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def delete(self, name: str) -> None:
        if self.local:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(name))
        elif self.fs.exists(self.path(name)):
            self.fs.rm_file(self.path(name))

    def open_file(self, name: str) -> IO[bytes]:
        if self.local:
            return open(self.path(name), "rb")
        return self.fs.open(self.path(name), "rb")

    def open_arrow(self, name: str, columns: list[int] | None = None) -> pa.ipc.RecordBatchFileReader:
        """An Arrow file: memory-mapped where it is local, else read by ranges; `columns` by number."""
        options = pa.ipc.IpcReadOptions(included_fields=columns)
        source = pa.memory_map(self.path(name)) if self.local else pa.PythonFile(self.open_file(name), "r")
        return pa.ipc.open_file(source, options=options)

    def digest(self, name: str) -> str:
        """sha256 of a file, hex."""
        return file_digest(self.open_file(name))

    # names and locks

    def refs(self) -> dict[str, str]:
        """NAME -> manifest file name (`<digest>-<provenance>`)."""
        return {name.split("/", 1)[1]: self.read(name).decode().strip() for name in self.names("refs")}

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Held by every stage while it runs, so that `gc` does not delete what is not yet in a manifest."""
        with self._lock(
            fcntl.LOCK_SH, "lock", "imm gc is deleting in this store: wait until it is done"
        ) as held:
            self._held = held
            try:
                yield
            finally:
                self._held = None

    @contextlib.contextmanager
    def nobody_else(self) -> Iterator[bool]:
        """Inside `using`: whether no other command uses this store; if so none begins to until the end."""
        if self._held is None:
            yield False
            return
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fcntl.flock(self._held, fcntl.LOCK_SH)
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._held, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Held by `gc`. Raises StoreError when a stage is running."""
        with self._lock(
            fcntl.LOCK_EX, "lock", "another imm command is using this store: wait until it is done"
        ):
            yield

    @contextlib.contextmanager
    def changing_refs(self) -> Iterator[None]:
        with self._lock(fcntl.LOCK_EX, "lock-refs", None):
            yield

    @contextlib.contextmanager
    def _lock(self, kind: int, name: str, busy: str | None) -> Iterator[int | None]:
        """Take a lock; with `busy` given it must be free, else StoreError says that. Local stores only."""
        if not self.local:
            yield None
            return
        try:
            handle = os.open(self.path(name), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if kind == fcntl.LOCK_SH and error.errno in (errno.EACCES, errno.EROFS):
                yield None  # a store that can't be written can be read
                return
            raise
        try:
            try:
                fcntl.flock(handle, kind | (fcntl.LOCK_NB if busy else 0))
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise StoreError(f"{self.url}: {busy}") from None
                if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                    raise
            yield handle
        finally:
            os.close(handle)


def read_range(path: str, offset: int, length: int) -> bytes:
    """`length` bytes from `offset` of a local file; fewer where the file ends before."""
    handle = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while length > 0:
            part = os.pread(handle, length, offset)
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(handle)


def file_digest(file: str | IO[bytes]) -> str:
    """sha256 of a local path or an open file (which it closes), hex."""
    with open(file, "rb") if isinstance(file, str) else file as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of a plain value, hex: the name of a configuration."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def write_table(store: Store, folder: str, table: pa.Table, suffix: str = ".arrow") -> str:
    """Publish a table as `folder/<sha256 of the file><suffix>`, Arrow IPC or Parquet by suffix; its name."""
    with store.scratch() as temporary:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, temporary, compression="zstd")
        else:
            with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        name = f"{folder}/{file_digest(temporary)}{suffix}"
        if not store.exists(name):
            store.publish(temporary, name)
    return name


def read_table(store: Store, name: str, columns: list[str] | None = None) -> pa.Table:
    """A table written by `write_table`. Raises FileNotFoundError, or ValueError for a damaged file."""
    try:
        if name.endswith(".parquet"):
            import pyarrow.parquet as pq

            # Read ahead by threads, a file may still be in use when the interpreter ends.
            with store.open_file(name) as file:
                return pq.read_table(
                    file,
                    columns=columns,
                    use_threads=False,
                    pre_buffer=False,
                    page_checksum_verification=True,
                )
        table = store.open_arrow(name).read_all()
        return table if columns is None else table.select(columns)
    except (pa.ArrowInvalid, OSError, io.UnsupportedOperation) as error:
        if isinstance(error, FileNotFoundError):
            raise
        advice = "; delete it, and it is measured again" if name.startswith("sidecars/") else ""
        raise ValueError(f"{store.url}/{name} is damaged: {' '.join(str(error).split())}{advice}") from None
