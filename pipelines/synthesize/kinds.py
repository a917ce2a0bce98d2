"""Which types of question a picture is asked: those that suit its tags, by a table, or all in turn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from infinity_mm.manifest import Manifest
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.drawing import generator
from pipelines.synthesize.images import Unit
from pipelines.synthesize.pairs import Image, Kind
from pipelines.tag.kept import Tagged, Tags
from pipelines.types.sampler import Sampler
from pipelines.types.table import Table
from pipelines.types.taxonomy import Taxonomy

Fitting = Callable[[Unit], list[list[Kind]]]  # the types of each picture of a unit


def fitting_of(manifest: Manifest, config: SynthesizeConfig) -> Fitting:
    """How types are chosen. Raises ValueError for a taxonomy or table that can't be used, or where tags
    are missing."""
    taxonomy = Taxonomy.load(config.types)
    kinds = {
        one.id: Kind(one.id, {lang: one.called(lang) for lang in ("en", "zh")})
        for one in taxonomy.types.values()
    }
    if config.table is None:
        return evenly(list(kinds.values()), config.questions, config.seed)
    table = Table.read(Path(config.table))
    if table.taxonomy_digest != taxonomy.digest:
        raise ValueError(
            f"table {config.table} was made with another taxonomy ({table.taxonomy}): name that with "
            "--types, or make the table again"
        )
    return by_table(table, Tags(manifest), kinds, config.questions, config.seed)


def evenly(kinds: Sequence[Kind], count: int, seed: int) -> Fitting:
    """Every type as likely as any other, each once before one comes twice."""

    def types(image: Image) -> list[Kind]:
        rng = generator(seed, image.medium, "types")
        drawn: list[Kind] = []
        while len(drawn) < count:
            order: np.ndarray = rng.permutation(len(kinds))[: count - len(drawn)]
            drawn += [kinds[i] for i in order.tolist()]
        return drawn

    return lambda unit: [types(image) for image in unit]


def by_table(table: Table, tags: Tags, kinds: dict[str, Kind], count: int, seed: int) -> Fitting:
    """Those that suit a picture's tags; of a picture whose tags are not known, any."""

    def fitting(unit: Unit) -> list[list[Kind]]:
        sampler = Sampler(table, seed, unit[0].medium.hex())
        found = []
        for image, told in zip(unit, tags.of([image.medium for image in unit]), strict=True):
            known: list[Tagged] = told if isinstance(told, list) else []
            found.append([kinds[one] for one in sampler.draw(image.medium, known, count)])
        return found

    return fitting
