"""What the writers share: which media a sample's parts name, markers, and a record's further fields."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from infinity_mm.formats.media_refs import MEDIA_FIELDS
from infinity_mm.formats.turns import CONVERSATION_FIELDS, MARKER
from infinity_mm.formats.types import Medium, WriteOptions
from infinity_mm.schema import MEDIA_KINDS, Part, Sample, Turn

# a record's own fields must not be taken for these when it is read again
RESERVED = frozenset((*MEDIA_FIELDS, *CONVERSATION_FIELDS))


class Lists(NamedTuple):
    """A sample's media by kind. `kinds[i]`: the list medium i is in; `place[i]`: its number there."""

    kinds: tuple[str, ...]
    place: tuple[int, ...]
    members: dict[str, list[int]]

    def order(self) -> list[str] | None:
        """The kinds of the media in order, where "images, then videos" would not give it back.

        Only media that no part names count: the others are ordered by the parts.
        """
        return list(self.kinds) if list(self.kinds) != sorted(self.kinds) else None


def media_parts(sample: Sample) -> Iterator[Part]:
    for turn in (*sample.turns, *(sample.rejected or ())):
        yield from (p for p in turn.parts if p.type != "text")


def lists_of(sample: Sample, media: Sequence[Medium]) -> Lists:
    """A medium goes in the list its part says, and where no part names it, in that of what it is."""
    kinds = [m.kind for m in media]
    for part in media_parts(sample):
        if part.media is not None:
            kinds[part.media] = part.type
    members: dict[str, list[int]] = {kind: [] for kind in MEDIA_KINDS}
    place = []
    for i, kind in enumerate(kinds):
        place.append(len(members[kind]))
        members[kind].append(i)
    return Lists(tuple(kinds), tuple(place), members)


def written_order(sample: Sample, lists: Lists) -> list[str] | None:
    """`media_order` for the record, needed only where media that no part names are of both kinds."""
    named = {p.media for p in media_parts(sample)}
    rest = [kind for i, kind in enumerate(lists.kinds) if i not in named]
    return lists.order() if rest != sorted(rest) else None


def literal_marker(sample: Sample) -> str | None:
    """A text that a reader of markers would take for a picture or clip."""
    for turn in (*sample.turns, *(sample.rejected or ())):
        for part in turn.parts:
            if part.text and "<" in part.text and (found := MARKER.search(part.text)):
                return found[0].rstrip("\n")
    return None


def misplaced_marker(sample: Sample, unnamed: Sequence[str]) -> str | None:
    """The kind whose markers would be given other media when counted off. `unnamed`: kinds no part names."""
    dangling: set[str] = set()
    for part in media_parts(sample):
        if part.media is None:
            dangling.add(part.type)
        elif part.type in dangling:
            return part.type
    return next((kind for kind in MEDIA_KINDS if kind in dangling and kind in unnamed), None)


def marked_text(turn: Turn) -> str:
    """A turn as text with markers: after a marker that anything follows comes the newline that is its own."""
    pieces = []
    for i, part in enumerate(turn.parts):
        if part.type == "text":
            pieces.append(part.text or "")
        else:
            pieces.append(f"<{part.type}>" + ("\n" if i + 1 < len(turn.parts) else ""))
    return "".join(pieces)


def with_meta(sample: Sample, own: dict[str, Any], options: WriteOptions) -> dict[str, Any]:
    """A whole record: id, the format's own fields, source, and the source's further fields.

    Fields that would be taken for the format's own are kept in an object `meta`.
    """
    meta = json.loads(sample.meta)
    given = meta.pop("id", None)
    record = {"id": sample.sample_id.hex() if given is None else given, **own}
    if sample.source and sample.source != options.default_source:
        record["source"] = sample.source
        if meta.get("source") == sample.source:
            del meta["source"]
    apart = {k: meta.pop(k) for k in list(meta) if k in record or k in RESERVED}
    if apart:
        if "meta" in meta:
            apart["meta"] = meta.pop("meta")
        meta["meta"] = apart
    return record | meta
