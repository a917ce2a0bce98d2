"""The layout Infinity-MM is released in: tars of `KEY.json` and `KEY.jpg`, one picture or none a sample.

In: the release's measures (`phash`, `ram++_tags`, `ram++_tags_score`, `qw2vl_loss`) stay in meta as they
are, `source` is the record's source. Out: the same, a text-only sample with an empty picture entry.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infinity_mm.formats.extensions import extension
from infinity_mm.formats.json_value import dump
from infinity_mm.formats.llava import llava_turns, no_markers
from infinity_mm.formats.publish import nothing_more
from infinity_mm.formats.sample_out import lists_of, media_parts, with_meta
from infinity_mm.formats.types import Item, WriteOptions
from infinity_mm.formats.webdataset import WebDatasetReader
from infinity_mm.formats.webdataset_writer import Tars
from infinity_mm.schema import Sample

INFINITY_MM = WebDatasetReader("infinity-mm")


class InfinityMMWriter:
    largest_medium = 1 << 62
    holds = (
        "conversations of any roles with one image or none; not several media, videos, rejected answers, "
        "nor texts with a literal <image> or <video> in them"
    )

    def refuses(self, sample: Sample) -> str | None:
        if len(sample.media) > 1:
            return f"the sample has {len(sample.media)} media; the release has one picture a record at most"
        if any(p.type == "video" for p in media_parts(sample)):
            return "the sample has a video; the release has pictures only"
        if sample.rejected is not None:
            return "the sample has a rejected answer, for which the release has no field"
        return no_markers(sample)

    def write(self, items: Iterator[Item], folder: Path, part: int, options: WriteOptions) -> list[Path]:
        """Memory: a few MB and one medium."""
        with Tars(folder, part, options.tar_bytes) as tars:
            for sample, media in items:
                if why := self.refuses(sample):
                    raise ValueError(f"sample {sample.sample_id.hex()}: {why}")
                tar = tars.current()
                key = sample.sample_id.hex()
                kinds = lists_of(sample, media).kinds
                picture = f"{key}.{extension(kinds[0], media[0].format) if media else 'jpg'}"
                own: dict[str, Any] = {"image": picture} if media else {}
                own["conversations"] = llava_turns(sample.turns)
                tar.add(f"{key}.json", dump(with_meta(sample, own, options)).encode())
                tar.add(picture, media[0].read() if media else b"")
        return tars.paths

    def finish(self, folder: Path, parts: Sequence[Path]) -> list[Path]:
        return nothing_more(folder, parts)
