"""LLaVA files out: a JSON array (or JSON Lines) of records with `conversations`, media beside it as files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infinity_mm.formats.json_value import dump
from infinity_mm.formats.publish import MediaFolder, nothing_more, publishing
from infinity_mm.formats.sample_out import (
    Lists,
    lists_of,
    literal_marker,
    marked_text,
    media_parts,
    misplaced_marker,
    with_meta,
    written_order,
)
from infinity_mm.formats.types import Item, WriteOptions
from infinity_mm.schema import MEDIA_KINDS, Sample, Turn

FROM = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


class LlavaWriter:
    largest_medium = 1 << 62
    holds = (
        "conversations of any roles with images and videos, and rejected answers; not texts with a literal "
        "<image> or <video> in them, nor a marker without a medium before one that has one"
    )

    def refuses(self, sample: Sample) -> str | None:
        return no_markers(sample)

    def write(self, items: Iterator[Item], folder: Path, part: int, options: WriteOptions) -> list[Path]:
        """Memory: one record and the ids of the part's media."""
        path = folder / f"data-{part:05}.{'jsonl' if options.lines else 'json'}"
        files = MediaFolder(folder)
        with publishing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as out:
            if not options.lines:
                out.write("[")
            for i, item in enumerate(items):
                if why := self.refuses(item.sample):
                    raise ValueError(f"sample {item.sample.sample_id.hex()}: {why}")
                lists = lists_of(item.sample, item.media)
                paths = [files.put(m) for m in item.media]
                record = with_meta(item.sample, llava_fields(item.sample, lists, paths), options)
                out.write(dump(record) + "\n" if options.lines else "," * (i > 0) + "\n" + dump(record))
            if not options.lines:
                out.write("\n]\n")
        return [path]

    def finish(self, folder: Path, parts: Sequence[Path]) -> list[Path]:
        return nothing_more(folder, parts)


def no_markers(sample: Sample) -> str | None:
    """Why a sample cannot be written with markers."""
    if literal := literal_marker(sample):
        return f"a text has a literal {literal} in it, which the format could only mean as a medium"
    named = {p.media for p in media_parts(sample)}
    rest = MEDIA_KINDS if len(named - {None}) < len(sample.media) else ()
    if kind := misplaced_marker(sample, rest):
        return f"a <{kind}> marker without a medium would be given one that belongs elsewhere"
    return None


def llava_turns(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"from": FROM[turn.role], "value": marked_text(turn)} for turn in turns]


def llava_fields(sample: Sample, lists: Lists, paths: Sequence[str]) -> dict[str, Any]:
    """The record's own fields: a single medium as a string, several as a list."""
    own: dict[str, Any] = {}
    for kind, members in lists.members.items():
        if members:
            own[kind] = paths[members[0]] if len(members) == 1 else [paths[i] for i in members]
    if order := written_order(sample, lists):
        own["media_order"] = order
    own["conversations"] = llava_turns(sample.turns)
    if sample.rejected is not None:
        own["rejected"] = llava_turns(sample.rejected)
    return own
