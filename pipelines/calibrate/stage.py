"""`imm calibrate`: precision and recall against threshold, measured on a few hundred pictures of a manifest.

Each picture gets known near-duplicates (`infinity_mm.media.variants`), which are found or not; different
pictures of the sample are known not to be duplicates, and are found wrongly or not. Pairs of the sample that
look the same already (hashes within TWINS bits) are left out: whether they are duplicates is not known. The
files go through ingest, measures and searches in a store that is deleted at the end, so that the distances
are those that `imm dedup` would see.

Precision is of pairs, as if each picture of the sample had one near-duplicate of each kind. False pairs grow
with the square of a dataset's size: how many to expect in the whole manifest is said beside it.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field, field_validator

from infinity_mm.executor import Report, Silent
from infinity_mm.interval import share
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import MediaError, decode_image
from infinity_mm.media.index import Unavailable
from infinity_mm.media.variants import VARIANTS, variant
from infinity_mm.order import mix
from infinity_mm.report.calibration import calibration
from infinity_mm.report.page import check_target, write_page
from infinity_mm.schema import media_id
from infinity_mm.spill import halves
from infinity_mm.store import Store
from pipelines.calibrate.distances import METHODS, Distances
from pipelines.config import LookingConfig, MeasuringConfig
from pipelines.dedup.population import Population
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest

ORIGINAL = "original"
TWINS = 4  # bits: nearer originals may be duplicates already
LEAST = 10  # pictures


class CalibrateConfig(LookingConfig):
    """Measure on a manifest's own pictures what dedup thresholds mean."""

    manifest: str = Field(
        description="Manifest whose pictures to take: NAME, digest or path.",
        json_schema_extra={"positional": True},
    )
    out: Path | None = Field(None, description="HTML file of the curves to write.")
    count: int = Field(300, ge=10, le=5000, description="Pictures to take.")
    precision: float = Field(0.99, gt=0, lt=1, description="Precision that the setting printed shall have.")
    variants: list[str] = Field(
        list(VARIANTS), description=f"Kinds of near-duplicate to make (repeatable): {', '.join(VARIANTS)}."
    )
    embedder: str | None = Field(
        None, description="Model to calibrate --by semantic for: open_clip:…, hf:…, onnx:… or tiny."
    )
    seed: int = Field(0, ge=0, description="Seed of the choice of pictures.")

    @field_validator("variants")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in VARIANTS:
                raise ValueError(f"no variant {name!r}: there are {', '.join(VARIANTS)}")
        return list(dict.fromkeys(names))


class Sampled(NamedTuple):
    """What was written. `made`: the media ids of each original, and of its variant of each kind, in order."""

    made: list[dict[str, bytes]]
    skipped: dict[str, int]


def run(config: CalibrateConfig, report: Report | None = None) -> dict[str, Any]:
    """Precision and recall of each method against its threshold, and the setting that is precise enough."""
    report = report or Silent()
    if config.out is not None:
        check_target(config.out, config.replace)
    store = Store.open(config.store)
    with store.using(), tempfile.TemporaryDirectory(prefix="imm-calibrate-") as folder:
        manifest = Manifest.open(store, config.manifest)
        files = Path(folder, "files")
        sampled = _write(config, manifest, files, report)
        made = ingest(
            IngestConfig(
                inputs=[str(files / "data.jsonl")],
                store=str(Path(folder, "store")),
                out="calibration",
                workers=config.workers,
            ),
            report,
        )
        own = Manifest.open(Store.open(Path(folder, "store")), made["manifest"])
        pictures = _images(manifest)
        given = {"max_pixels": config.max_pixels, "workers": config.workers}
        measuring = MeasuringConfig(**given, **({"embedder": config.embedder} if config.embedder else {}))
        asked = [name for name in METHODS if config.embedder or name != "semantic"]
        found = [METHODS[name](measuring, own, report) for name in asked]
        twins = _twins(found[0], sampled)
        methods = [_curve(config, one, sampled, twins, pictures) for one in found]
    result = {
        "stage": "calibrate",
        "manifest": manifest.file,
        "pictures": len(sampled.made),
        "in_manifest": pictures,
        "skipped": sampled.skipped,
        "wanted_precision": config.precision,
        "variants": {name: VARIANTS[name][0] for name in config.variants},
        "methods": methods,
    }
    if config.out is not None:
        write_page(config.out, calibration(config.manifest, result))
        result["out"] = str(config.out)
    return result


def _images(manifest: Manifest) -> int:
    library = manifest.library()
    return sum(sum(kind == "image" for kind in library.shard(s).kinds) for s in library.shards())


def _chosen(manifest: Manifest, seed: int) -> Iterator[bytes]:
    """The pictures of the manifest, in an order of chance that depends on their content alone."""
    population = Population(manifest)
    high, low = halves(population.media_ids)
    for i in np.argsort(mix(high ^ low, seed), kind="stable").tolist():
        yield population.media_ids[i].tobytes()


def _write(config: CalibrateConfig, manifest: Manifest, folder: Path, report: Report) -> Sampled:
    """Originals and variants as files with a record each."""
    folder.mkdir(parents=True)
    library = manifest.library()
    made: list[dict[str, bytes]] = []
    skipped = {"clips": 0, "undecodable": 0}
    report.start("make near-duplicates", config.count, "pictures")
    with (folder / "data.jsonl").open("w") as records:
        for medium in _chosen(manifest, config.seed):
            if len(made) == config.count:
                break
            try:
                if library.info(medium)["kind"] == "video":
                    skipped["clips"] += 1
                    continue
                data = library.read(medium)
                pixels = decode_image(data, max_pixels=config.max_pixels).pixels
            except (MediaError, Unavailable):
                skipped["undecodable"] += 1
                continue
            image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
            files = {ORIGINAL: data} | {kind: variant(image, kind) for kind in config.variants}
            for kind, content in files.items():
                path = f"{len(made)}-{kind}"
                (folder / path).write_bytes(content)
                turns = [{"from": "human", "value": f"<image>\n{path}?"}, {"from": "gpt", "value": "Yes."}]
                records.write(json.dumps({"image": path, "conversations": turns}) + "\n")
            made.append({kind: media_id(content) for kind, content in files.items()})
            report.advance()
    report.done()
    if len(made) < LEAST:
        raise ValueError(f"only {len(made)} pictures of {config.manifest} can be decoded: {LEAST} are needed")
    return Sampled(made, skipped)


def _curve(
    config: CalibrateConfig, found: Distances, sampled: Sampled, twins: np.ndarray, pictures: int
) -> dict[str, Any]:
    """What one method finds at each threshold: shares of variants by kind, false pairs, precision."""
    originals = found.numbers([one[ORIGINAL] for one in sampled.made])
    between = found.between(originals, originals)
    above = np.triu(np.ones(between.shape, bool), 1)
    different = above & ~twins
    apart = np.sort(between[different])
    known = {
        kind: found.pairs(originals, found.numbers([one[kind] for one in sampled.made]))
        for kind in config.variants
    }
    every = np.concatenate(list(known.values()))
    rows: list[dict[str, Any]] = []
    for threshold in found.grid:
        false = int(np.searchsorted(apart, threshold, "right"))
        hits = int((every <= threshold).sum())
        rows.append(
            {
                "threshold": found.show(float(threshold)),
                "recall": hits / len(every),
                "by_variant": {kind: float((d <= threshold).mean()) for kind, d in known.items()},
                "false_pairs": false,
                "precision": hits / (hits + false) if hits + false else None,
                "false_in_manifest": _expected(false, int(different.sum()), pictures),
            }
        )
    good = [r for r in rows if r["precision"] is not None and r["precision"] >= config.precision]
    return {
        "name": found.name,
        "option": found.option,
        "unit": found.unit,
        "twins": int((above & ~different).sum()),
        "different_pairs": int(different.sum()),
        "curve": rows,
        "setting": max(good, key=lambda r: (r["recall"], -r["false_pairs"])) if good else None,
        "nearest_different": [found.show(float(d)) for d in apart[:5] if np.isfinite(d)],
    }


def _twins(perceptual: Distances, sampled: Sampled) -> np.ndarray:
    """bool [originals, originals]: those that may be duplicates of one another already."""
    originals = perceptual.numbers([one[ORIGINAL] for one in sampled.made])
    return perceptual.between(originals, originals) <= TWINS


def _expected(false: int, pairs: int, pictures: int) -> tuple[float, float]:
    """False pairs among so many pictures: as in the sample, and the upper end of their 95 % interval."""
    every = pictures * (pictures - 1) / 2
    return false / pairs * every if pairs else 0.0, share(false, pairs)[1] * every
