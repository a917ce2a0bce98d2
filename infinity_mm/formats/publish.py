"""Files appear whole: written under a temporary name, then renamed. Media files are written once."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from infinity_mm.formats.extensions import extension
from infinity_mm.formats.tar_files import write_all
from infinity_mm.formats.types import Medium


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end, or deleted where that isn't reached."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=f"-{path.name[-80:]}")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


class MediaFolder:
    """Media as files `images/ab/<id>.<extension>` and `videos/ab/…` below a folder.

    Remembers what it wrote: memory grows by some hundred bytes for each distinct medium of a part.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.there: dict[bytes, str] = {}

    def put(self, medium: Medium) -> str:
        """Write a medium unless it is there with the right size; its path from the folder."""
        if (place := self.there.get(medium.media_id)) is not None:
            return place
        name = medium.media_id.hex()
        place = f"{medium.kind}s/{name[:2]}/{name}.{extension(medium.kind, medium.format)}"
        path = self.folder / place
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            size = -1
        if size < 0 or size != medium.size:
            data = medium.read()
            if size != len(data):
                with publishing(path) as temporary:
                    handle = os.open(temporary, os.O_WRONLY)
                    try:
                        write_all(handle, [data])
                    finally:
                        os.close(handle)
        self.there[medium.media_id] = place
        return place


def nothing_more(folder: Path, parts: Sequence[Path]) -> list[Path]:
    """`Writer.finish` of a format whose parts stand alone."""
    return []
