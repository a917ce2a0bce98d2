"""WebDataset tars out: for each sample `ID.json` with messages in parts, then its media `ID.0.jpg`, …

Bytes go from the medium's buffer to the file without a copy; memory holds a few MB and one medium.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infinity_mm.formats.extensions import extension
from infinity_mm.formats.json_value import dump
from infinity_mm.formats.publish import nothing_more, publishing
from infinity_mm.formats.sample_out import with_meta
from infinity_mm.formats.tar_files import TarWriter
from infinity_mm.formats.types import Item, WriteOptions
from infinity_mm.schema import Part, Sample, Turn


class WebDatasetWriter:
    largest_medium = 1 << 62
    holds = "every sample: a part names its medium by the number of the tar member"

    def refuses(self, sample: Sample) -> str | None:
        return None

    def write(self, items: Iterator[Item], folder: Path, part: int, options: WriteOptions) -> list[Path]:
        with Tars(folder, part, options.tar_bytes) as tars:
            for sample, media in items:
                tar = tars.current()
                key = sample.sample_id.hex()
                tar.add(f"{key}.json", dump(with_meta(sample, _fields(sample), options)).encode())
                for i, medium in enumerate(media):
                    tar.add(f"{key}.{i}.{extension(medium.kind, medium.format)}", medium.read())
        return tars.paths

    def finish(self, folder: Path, parts: Sequence[Path]) -> list[Path]:
        return nothing_more(folder, parts)


def _fields(sample: Sample) -> dict[str, Any]:
    own: dict[str, Any] = {"messages": _messages(sample.turns)}
    if sample.rejected is not None:
        own["rejected"] = _messages(sample.rejected)
    return own


def _messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": [_part(p) for p in turn.parts]} for turn in turns]


def _part(part: Part) -> dict[str, Any]:
    if part.type == "text":
        return {"type": "text", "text": part.text}
    return {"type": part.type, "media": -1 if part.media is None else part.media}


class Tars:
    """The tars of one part, `data-PART-000.tar` and on: a full one is closed before the next sample."""

    def __init__(self, folder: Path, part: int, limit: int) -> None:
        self.folder, self.part, self.limit = folder, part, limit
        self.paths: list[Path] = []
        self.open = contextlib.ExitStack()
        self.tar: TarWriter | None = None

    def __enter__(self) -> "Tars":
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.current()
            self._close()
        else:
            self.open.__exit__(*error)

    def current(self) -> TarWriter:
        """The tar that takes the next sample."""
        if self.tar is not None and self.tar.size >= self.limit:
            self._close()
        if self.tar is None:
            path = self.folder / f"data-{self.part:05}-{len(self.paths):03}.tar"
            temporary = self.open.enter_context(publishing(path))
            handle = os.open(temporary, os.O_WRONLY)
            self.open.callback(os.close, handle)
            self.tar = TarWriter(handle)
            self.paths.append(path)
        return self.tar

    def _close(self) -> None:
        assert self.tar is not None
        with self.open:
            self.tar.finish()
        self.tar = None
