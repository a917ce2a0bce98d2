"""Messages out: JSON Lines of role and content, the way OpenAI, TRL and LLaMA-Factory have it.

Content is text with markers where that can say it, else every turn of the record is a list of parts, where
a medium is `{"type": "image", "index": k}`: the k-th of the record's `images` (-1: a picture it lacks).
"""

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
from infinity_mm.schema import Part, Sample, Turn


class MessagesWriter:
    largest_medium = 1 << 62
    holds = "every sample: content is text with markers, or parts where markers could not say it"

    def refuses(self, sample: Sample) -> str | None:
        return None

    def write(self, items: Iterator[Item], folder: Path, part: int, options: WriteOptions) -> list[Path]:
        """Memory: one record and the ids of the part's media."""
        path = folder / f"data-{part:05}.jsonl"
        files = MediaFolder(folder)
        with publishing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as out:
            for sample, media in items:
                lists = lists_of(sample, media)
                paths = [files.put(m) for m in media]
                own = messages_fields(sample, lists)
                for kind, members in lists.members.items():
                    if members:
                        own[kind + "s"] = [paths[i] for i in members]
                out.write(dump(with_meta(sample, own, options)) + "\n")
        return [path]

    def finish(self, folder: Path, parts: Sequence[Path]) -> list[Path]:
        return nothing_more(folder, parts)


def messages_fields(sample: Sample, lists: Lists) -> dict[str, Any]:
    """`messages`, `rejected` and `media_order`."""
    as_text = markers_suffice(sample, lists)

    def messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
        return [
            {
                "role": turn.role,
                "content": marked_text(turn) if as_text else [_part(p, lists) for p in turn.parts],
            }
            for turn in turns
        ]

    own: dict[str, Any] = {"messages": messages(sample.turns)}
    if sample.rejected is not None:
        own["rejected"] = messages(sample.rejected)
    if order := written_order(sample, lists):
        own["media_order"] = order
    return own


def markers_suffice(sample: Sample, lists: Lists) -> bool:
    """Would a reader get the sample back from texts with markers?"""
    parts = list(media_parts(sample))
    if not sample.media:
        return not parts
    named = {p.media for p in parts}
    rest = [kind for i, kind in enumerate(lists.kinds) if i not in named]
    return literal_marker(sample) is None and misplaced_marker(sample, rest) is None


def _part(part: Part, lists: Lists) -> dict[str, Any]:
    if part.type == "text":
        return {"type": "text", "text": part.text}
    return {"type": part.type, "index": -1 if part.media is None else lists.place[part.media]}
