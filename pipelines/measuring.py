"""`imm measure`: fill the sidecars of a manifest's samples and media, and say what the measures are like.

A measure is kept for good with the shard it is of: no later stage makes it again.
"""

from typing import Any

from pydantic import Field, field_validator, model_validator

from infinity_mm.executor import Report
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from pipelines.config import MeasuringConfig
from pipelines.measure import measure, settings_of
from pipelines.measures.registry import (
    DERIVED,
    FAMILIES,
    UNASKED,
    is_known,
    is_media,
    listed,
    unknown,
)
from pipelines.measures.vlm_loss import NAME, SHORT, one_scorer
from pipelines.values import Values, summary


class MeasureConfig(MeasuringConfig):
    """Measure samples and media."""

    manifest: str | None = Field(
        None, description="Manifest to measure: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    with_: list[str] = Field(
        [],
        alias="with",
        description="Measure or family to measure (repeatable) "
        "[default: all but clip_score, vlm_loss, pixel_digest and symmetries]; "
        "loss:MODEL is vlm_loss by that scorer.",
    )
    list_: bool = Field(False, alias="list", description="Measure nothing: list every measure.")

    @model_validator(mode="before")
    @classmethod
    def _scorer(cls, values: Any) -> Any:
        """`loss:MODEL` as what it stands for."""
        if not isinstance(values, dict) or not isinstance(names := values.get("with"), list):
            return values
        models = [name.removeprefix(SHORT) for name in names if str(name).startswith(SHORT)]
        scorer = one_scorer(values.get("scorer"), models)
        names = [NAME if str(name).startswith(SHORT) else name for name in names]
        return values | {"with": names} | ({"scorer": scorer} if scorer is not None else {})

    @field_validator("with_")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in FAMILIES and not is_known(name):
                raise ValueError(unknown(name))
        return names


def run(config: MeasureConfig, report: Report | None = None) -> dict[str, Any]:
    """Measure what is missing; of each measure what its values are like. Raises ValueError."""
    if config.list_:
        return {"measures": [entry._asdict() for entry in listed()]}
    if config.manifest is None:
        raise ValueError("name the manifest to measure, or give --list")
    names = _measures(config.with_)
    store = Store.open(config.store)
    with store.using():
        manifest = Manifest.open(store, config.manifest)
        settings = settings_of(config, names)
        files, measured = measure(store, manifest, settings, workers=config.workers, report=report)
        values = Values(manifest, files)
        found = {name: {"of": _of(name), **summary(values.column(name))} for name in names}
    return {
        "stage": "measure",
        "manifest": manifest.file,
        "digest": manifest.digest,
        "in": values.samples,
        "media": values.media,
        "measures": found,
        "measured_shards": measured,
        "note": "" if any(measured.values()) else "every measure was there already: nothing was decoded",
    }


def _measures(given: list[str]) -> list[str]:
    """The measures that names of measures and families stand for; UNASKED, where none is given."""
    names: list[str] = []
    for name in given or UNASKED:
        if name in FAMILIES:
            names += FAMILIES[name].measures
        elif name in DERIVED:
            raise ValueError(f"{name!r} is known without measuring: use it in a rule of `imm filter`")
        else:
            names.append(name)
    return list(dict.fromkeys(names))


def _of(name: str) -> str:
    return "media" if is_media(name) else "samples"
