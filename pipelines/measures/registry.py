"""All measures by name. A new one is a function in a family's module; a new family is a line here."""

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.sidecars import Family, Measure
from pipelines.measures.alignment import ALIGNMENT, MODEL
from pipelines.measures.arrived import GIVEN_PHASH, LOSS, TAGS, arrived
from pipelines.measures.conversation import CONVERSATION
from pipelines.measures.header import HEADER
from pipelines.measures.language import LANGUAGE
from pipelines.measures.look_alike import CLIP, CLIP_HASH, GRAY, HASH, PIXELS, SYMMETRIC, THUMBNAIL
from pipelines.measures.photometry import PHOTOMETRY
from pipelines.measures.structure import STRUCTURE
from pipelines.measures.text import TEXT
from pipelines.measures.tokens import TOKENS
from pipelines.measures.validity import VALIDITY
from pipelines.measures.vlm_loss import VLM_LOSS

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        STRUCTURE,
        TEXT,
        CONVERSATION,
        LANGUAGE,
        TOKENS,
        LOSS,
        TAGS,
        GIVEN_PHASH,
        HEADER,
        VALIDITY,
        PHOTOMETRY,
        HASH,
        SYMMETRIC,
        THUMBNAIL,
        CLIP_HASH,
        PIXELS,
        ALIGNMENT,
        VLM_LOSS,
    )
}
ARRIVED, META = "arrived", "meta."


class Derived(NamedTuple):
    """What is known when a rule is decided, without a sidecar of its own.

    `of`: "samples", or "media" for what is said of a medium in its sample; `needs`: the measures it is made
    of.
    """

    of: str
    measure: Measure
    needs: tuple[str, ...] = ()


DERIVED: dict[str, Derived] = {
    "source": Derived("samples", Measure(pa.string(), "", "the sample's source")),
    "draw": Derived("samples", Measure(pa.float64(), "", "a seeded random number from 0 to 1, by sample id")),
    "shown_as": Derived(
        "media",
        Measure(pa.string(), "", "what the turns show a medium as: image or video"),
        ("media_shown_as", "media_kind"),
    ),
    "name_format": Derived(
        "media",
        Measure(pa.string(), "", "the format that a medium's file name says, where it has a known ending"),
        ("media_kind", "media_format"),
    ),
}
# What a family costs that decodes, and the costs of those that are then measured with it for next to nothing.
DECODES = {"decode": ("decode", CLIP), GRAY: (GRAY,), CLIP: (CLIP,), PIXELS.cost: ()}
# Shares a decode, but is measured only where it is asked for: it takes half as long as all the rest.
APART = (SYMMETRIC.name,)
# What `imm measure` measures where nothing is named: all but APART and what needs a model or a full decode.
UNASKED = tuple(
    n for n, family in FAMILIES.items() if family.cost not in (MODEL, PIXELS.cost) and n not in APART
)
# What tells media and conversations apart, and nothing to a reader.
IDENTITIES = tuple(family.name for family in (CONVERSATION, SYMMETRIC, THUMBNAIL, CLIP_HASH, PIXELS))
FAMILY_OF: dict[str, str] = {name: family.name for family in FAMILIES.values() for name in family.measures}


class Entry(NamedTuple):
    """A line of `imm measure --list`: `of` samples or media; what a look of its family costs."""

    name: str
    of: str
    family: str
    cost: str
    type: str
    unit: str
    meaning: str
    source: str


def listed() -> Iterator[Entry]:
    """Every measure that has a name of its own."""
    for family in FAMILIES.values():
        for name, measure in family.measures.items():
            yield Entry(name, family.of, family.name, family.cost, str(measure.type), *measure[1:])
    for name, derived in DERIVED.items():
        yield Entry(name, derived.of, "", "nothing", str(derived.measure.type), *derived.measure[1:])


def family_of(name: str, settings: dict[str, Any]) -> Family:
    """A family by name; `arrived` has the measures that its settings name."""
    return arrived(settings["fields"]) if name == ARRIVED else FAMILIES[name]


def is_known(name: str) -> bool:
    return name in FAMILY_OF or name in DERIVED or name.startswith(META)


def is_media(name: str) -> bool:
    """Whether a measure is of a medium."""
    if name in DERIVED:
        return DERIVED[name].of == "media"
    return not name.startswith(META) and FAMILIES[FAMILY_OF[name]].of == "media"


def measure_of(name: str) -> Measure:
    """A measure that has a name of its own."""
    return DERIVED[name].measure if name in DERIVED else FAMILIES[FAMILY_OF[name]].measures[name]


def with_needs(names: Iterable[str]) -> list[str]:
    """The measures and those they are made of, each once."""
    return list(dict.fromkeys(n for name in names for n in (*_needs(name), name)))


def _needs(name: str) -> tuple[str, ...]:
    return DERIVED[name].needs if name in DERIVED else ()


def unknown(name: str) -> str:
    """What to say of a name that no measure has."""
    near = get_close_matches(name.lower(), [*FAMILY_OF, *DERIVED], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no measure {name!r}{hint} (imm measure --list names them all; a field of meta is meta.FIELD)"


def family_name(measure: str) -> str | None:
    """The family whose sidecar has a measure; None for a derived one."""
    if measure in DERIVED:
        return None
    return ARRIVED if measure.startswith(META) else FAMILY_OF[measure]


def families(measures: Collection[str]) -> dict[str, list[str]]:
    """The measures, and those they are made of, by family."""
    found: dict[str, list[str]] = {}
    for name in with_needs(measures):
        if (of := family_name(name)) is not None:
            found.setdefault(of, []).append(name)
    return found
