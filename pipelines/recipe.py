"""`imm run`: stages from a YAML file, one after another; what is unchanged is skipped.

    store: store
    stages:
      - ingest: {inputs: [data.json], out: raw, source: mine}
      - filter: {manifest: raw, out: sound}
      - export: {manifest: sound, to: out, format: webdataset}

Each stage takes the options of its command, with `_` for `-`; `store` and `workers` at the top hold for all.
A stage is skipped if it was run before with the same configuration on the same manifests, and nothing was
withdrawn since. Ingest always looks at its files, and reads only those that are new or changed; tag and
tokenize always look at their model, and at media that are new to it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infinity_mm import __version__
from infinity_mm.engines.scoring import find_scorer
from infinity_mm.executor import Report
from infinity_mm.manifest import Manifest, name_is_free, resolve, set_ref
from infinity_mm.models.embedder import find_embedder
from infinity_mm.sidecars import UNAVAILABLE
from infinity_mm.store import Store, StoreError, digest_of
from infinity_mm.yaml_file import load as load_yaml
from pipelines import export, filter, fingerprint, mix, split
from pipelines.config import StageConfig
from pipelines.decontaminate import stage as decontaminate
from pipelines.decontaminate.config import DecontaminateConfig
from pipelines.dedup import stage as dedup
from pipelines.dedup.config import DedupConfig
from pipelines.fingerprint import FingerprintConfig
from pipelines.ingest import stage as ingest
from pipelines.ingest.config import IngestConfig
from pipelines.measures.tokens import resolve_tokenizer
from pipelines.synthesize import stage as synthesize
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.tag import stage as tag
from pipelines.tokenize import stage as tokenize


class Entry(NamedTuple):
    """A stage of a recipe. `inputs`: the fields that name manifests; `skips`: whether it may be skipped."""

    config: type[StageConfig]
    run: Callable[[Any, Report | None], dict[str, Any]]
    inputs: tuple[str, ...]
    skips: bool


STAGES: dict[str, Entry] = {
    "ingest": Entry(IngestConfig, ingest.run, (), False),
    "filter": Entry(filter.FilterConfig, filter.run, ("manifest",), True),
    "dedup": Entry(DedupConfig, dedup.run, ("manifest", "against"), True),
    "fingerprint": Entry(FingerprintConfig, fingerprint.run, ("manifest",), False),
    "decontaminate": Entry(DecontaminateConfig, decontaminate.run, ("manifest",), True),
    "tag": Entry(tag.TagConfig, tag.run, ("manifest",), False),
    "synthesize": Entry(SynthesizeConfig, synthesize.run, ("manifest",), True),
    "mix": Entry(mix.MixConfig, mix.run, ("manifests",), True),
    "split": Entry(split.SplitConfig, split.run, ("manifest",), True),
    "tokenize": Entry(tokenize.TokenizeConfig, tokenize.run, ("manifest",), False),
    "export": Entry(export.ExportConfig, export.run, ("manifest",), False),
}


class RecipeConfig(BaseModel):
    """Run the stages of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Path = Field(description="YAML file of the stages.", json_schema_extra={"positional": True})
    store: str | None = Field(None, description="Store to use instead of the recipe's.")
    workers: int | None = Field(None, ge=0, description="Workers to use instead of the recipe's.")
    replace: bool = Field(False, description="Point names that are taken to the new manifests.")
    force: bool = Field(False, description="Run every stage, unchanged or not.")


def load(path: Path) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """A recipe's common options and its stages. Raises ValueError saying what is wrong where."""
    try:
        recipe = load_yaml(path)
    except FileNotFoundError as error:
        raise ValueError(f"recipe {path} can't be read: {error}") from None
    if isinstance(recipe, dict) and "rules" in recipe:
        raise ValueError(f"recipe {path} is of rules: give it to `imm filter --recipe`")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("stages"), list) or not recipe["stages"]:
        raise ValueError(f"recipe {path} has no list of `stages`")
    common = {k: v for k, v in recipe.items() if k != "stages"}
    unknown = set(common) - {"store", "workers", "executor"}
    if unknown:
        raise ValueError(
            f"recipe {path}: unknown {sorted(unknown)[0]!r}; the top has store, workers, executor, stages"
        )
    stages = []
    for number, item in enumerate(recipe["stages"], 1):
        if not isinstance(item, dict) or len(item) != 1 or next(iter(item)) not in STAGES:
            raise ValueError(
                f"recipe {path}, stage {number}: give one of {', '.join(STAGES)} and its options"
            )
        name, options = next(iter(item.items()))
        if not isinstance(options, dict):
            raise ValueError(f"recipe {path}, stage {number} ({name}): its options must be a mapping")
        stages.append((name, options))
    return common, stages


def configs(config: RecipeConfig) -> list[tuple[str, StageConfig]]:
    """All stages' validated configurations, before any is run. Raises ValueError."""
    common, stages = load(config.recipe)
    if config.store is not None:
        common["store"] = config.store
    if config.workers is not None:
        common["workers"] = config.workers
    out = []
    for number, (name, options) in enumerate(stages, 1):
        fields = STAGES[name].config.model_fields
        values = {**{k: v for k, v in common.items() if k in fields}, **options}
        if config.replace:
            values["replace"] = True
        try:
            out.append((name, STAGES[name].config.model_validate(values)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "options"
            raise ValueError(
                f"recipe {config.recipe}, stage {number} ({name}): {field}: {first['msg']}"
            ) from None
    return out


def run(config: RecipeConfig, report: Report | None = None) -> dict[str, Any]:
    """Run a recipe; each stage's result, with `skipped` where it was not run."""
    results = []
    for name, stage in configs(config):
        results.append({"stage": name, **_run_one(name, stage, config.force, report)})
    return {"stages": results, "skipped": sum(bool(r["skipped"]) for r in results)}


def _run_one(name: str, config: StageConfig, force: bool, report: Report | None) -> dict[str, Any]:
    entry = STAGES[name]
    if not entry.skips:
        return {**entry.run(config, report), "skipped": False}
    store = Store.open(config.store)
    note = f"runs/{_key(store, name, config, entry)}.json"
    if not force and store.exists(note):
        result: dict[str, Any] = json.loads(store.read(note))
        if _still_there(store, name, config, result):
            return {**result, "skipped": True}
    result = entry.run(config, report)
    unread = set(result.get("reasons", ())) & set(UNAVAILABLE)  # what could not be read today is tried again
    if not unread and not result.get("dry_run"):
        store.write(note, json.dumps(result).encode())
    return {**result, "skipped": False}


def _key(store: Store, name: str, config: StageConfig, entry: Entry) -> str:
    given = [v for field in entry.inputs for v in _listed(getattr(config, field))]
    parents = [resolve(store, mix.assignment(v)[0] if name == "mix" else v) for v in given]
    stones = store.names("tombstones")
    out, tokenizer = getattr(config, "out", None), getattr(config, "tokenizer", None)
    content = resolve_tokenizer(tokenizer)["tokenizer_sha256"] if tokenizer else None
    embedder = getattr(config, "embedder", None) if "embedder" in config.model_fields_set else None
    model = find_embedder(embedder).digest if embedder else None
    scorer = getattr(config, "scorer", None) if "scorer" in config.model_fields_set else None
    identity = find_scorer(scorer).identity if scorer else None
    told = [config.recorded(), parents, stones, out, content, model, identity]
    return digest_of([__version__, name, *told])


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _still_there(store: Store, name: str, config: StageConfig, result: dict[str, Any]) -> bool:
    """Whether the manifests of an earlier run open; names that were moved since are pointed to them."""
    out = getattr(config, "out", "")
    made = {f"{out}-{part}": r["manifest"] for part, r in result.get("parts", {}).items()}
    made = made or {out: result["manifest"]}
    try:
        for ref, file in made.items():
            manifest = Manifest.open(store, file)
            name_is_free(store, ref, config.replace, name, manifest.document["config"])
            set_ref(store, ref, file, config.replace)
    except (StoreError, ValueError):
        return False
    return True
