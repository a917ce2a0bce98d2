"""`imm manifest show|verify|diff|copy|export`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli.options import add_stage, command_group
from infinity_mm.compare import diff
from infinity_mm.executor import default_workers
from infinity_mm.manifest import Manifest
from infinity_mm.progress import Progress
from infinity_mm.store import Store, read_table
from infinity_mm.transfer import copy
from infinity_mm.verify import verify
from pipelines.export import ExportConfig
from pipelines.export import run as run_export

REFERENCE = "Manifest: NAME, digest or path."


class _StoreConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = Field("store", description="Folder or fsspec URL of the store.")


class ShowConfig(_StoreConfig):
    """Show a manifest, or the names in the store."""

    dropped: int = Field(0, ge=0, description="List so many of the samples the stage did not keep.")
    manifest: str | None = Field(
        None,
        description=f"{REFERENCE} Left out: every name in the store.",
        json_schema_extra={"positional": True},
    )


class VerifyConfig(_StoreConfig):
    """Check a manifest and all it stands on."""

    manifest: str = Field(description=REFERENCE, json_schema_extra={"positional": True})
    media: bool = Field(False, description="Read every medium's bytes too, and check them against their ids.")
    workers: int = Field(default_factory=default_workers, ge=0, description="Worker processes.")


class DiffConfig(_StoreConfig):
    """What one manifest has and another has not."""

    a: str = Field(description=REFERENCE, json_schema_extra={"positional": True})
    b: str = Field(description=REFERENCE, json_schema_extra={"positional": True})


class CopyConfig(_StoreConfig):
    """Copy a manifest and all it stands on into another store."""

    manifest: str = Field(description=REFERENCE, json_schema_extra={"positional": True})
    to: str = Field(description="Store to copy to; made if it is not there.")
    out: str | None = Field(None, description="NAME in that store [default: the same].")
    replace: bool = Field(False, description="Point an existing NAME there to this manifest.")


def run_show(config: ShowConfig, progress: Progress) -> dict[str, Any]:
    store = Store.open(config.store)
    if config.manifest is None:
        opened = {
            name: Manifest.open(store, file, check=False) for name, file in sorted(store.refs().items())
        }
        return {"names": {n: {**m.reference(), "stage": m.document["stage"]} for n, m in opened.items()}}
    manifest = Manifest.open(store, config.manifest)
    return {k: v for k, v in manifest.document.items() if k not in ("shards", "media", "sidecars")} | {
        "manifest": manifest.file,
        "names": sorted(n for n, f in store.refs().items() if f == manifest.file),
        "shards": len(manifest.shards),
        "media": sum(m["count"] for m in manifest.document["media"]),
        "sidecars": len(manifest.document["sidecars"]),
        "not_kept": _not_kept(manifest, config.dropped),
    }


def _not_kept(manifest: Manifest, most: int) -> list[dict[str, Any]]:
    """The first rows of the ledger, ids as hex."""
    if not most:
        return []
    rows = read_table(manifest.store, manifest.document["ledger"]["file"]).slice(0, most).to_pylist()
    return [
        {k: v.hex() if isinstance(v, bytes) else v for k, v in row.items() if v is not None} for row in rows
    ]


def show_show(result: Mapping[str, Any]) -> str:
    """A table of names, or one manifest."""
    if "digest" not in result:
        rows = [(n, m["stage"], f"{m['samples']:,}", m["digest"][:16]) for n, m in result["names"].items()]
        if not rows:
            return "no manifests yet: make one with imm ingest"
        rows = [("name", "stage", "samples", "digest"), *rows]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows)
    counts = result["counts"]
    lines = [
        f"manifest  {result['manifest']}  {' '.join(result['names'])}",
        f"digest    {result['digest']}",
        f"samples   {result['samples']:,} (weight {result['weight']:,g}) in {result['shards']:,} shards, "
        f"{result['media']:,} media in its media shards",
        f"made by   {result['stage']} {_options(result['config'])}",
        "from      " + (", ".join(p["digest"][:16] for p in result["parents"]) or "files"),
        "account   " + "  ".join(f"{k} {v:,}" for k, v in counts.items()),
    ]
    for reason, count in sorted(result["ledger"]["reasons"].items(), key=lambda item: -item[1]):
        lines.append(f"          {count:>9,}  {reason}")
    lines.append("sources")
    for name, about in result["sources"].items():
        kept = result["ledger"]["sources"].get(name, {}).get("kept", 0)
        known = [str(about.get(k)) for k in ("licence", "uri") if about.get(k)]
        lines.append(f"          {kept:>9,}  {name}  ({', '.join(known) or 'licence unknown'})")
    for row in result["not_kept"]:
        said = [str(row[k]) for k in ("value", "detail") if row.get(k)]
        lines.append(f"{row['outcome']}  {row['reason']}  {row['origin']}  {'; '.join(said)}")
    return "\n".join(lines)


def _options(config: Mapping[str, Any]) -> str:
    given = {k: v for k, v in config.items() if v not in (None, [], False)}
    return " ".join(f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in given.items())


def run_verify(config: VerifyConfig, progress: Progress) -> dict[str, Any]:
    return verify(
        Store.open(config.store), config.manifest, media=config.media, workers=config.workers, report=progress
    )


def show_verify(result: Mapping[str, Any]) -> str:
    """What was read and what is wrong."""
    gone = result["withdrawn"]
    lines = [
        f"{'ok' if result['ok'] else 'NOT OK'}: {result['samples']:,} samples, {result['media']:,} media, "
        f"{result['media_bytes_read']:,} bytes of media read"
    ]
    if gone["samples"] or gone["media"]:
        lines.append(f"withdrawn and skipped: {gone['samples']:,} samples, {gone['media']:,} media")
    lines += [f"  {problem}" for problem in result["problems"]]
    if result["problem_count"] > len(result["problems"]):
        lines.append(f"  … and {result['problem_count'] - len(result['problems']):,} more")
    return "\n".join(lines)


def run_diff(config: DiffConfig, progress: Progress) -> dict[str, Any]:
    store = Store.open(config.store)
    return diff(Manifest.open(store, config.a), Manifest.open(store, config.b))


def show_diff(result: Mapping[str, Any]) -> str:
    """Counts by source, and a few ids to trace."""
    lines = [f"in both: {result['same']:,}; weight changed: {result['weight_changed']['samples']:,}"]
    for side in ("a", "b"):
        only = result[f"only_in_{side}"]
        sources = ", ".join(f"{n} {c:,}" for n, c in only["sources"].items())
        lines.append(f"only in {side}: {only['samples']:,}" + (f" ({sources})" if sources else ""))
        lines += [f"  {identity}" for identity in only["first"]]
    return "\n".join(lines)


def run_copy(config: CopyConfig, progress: Progress) -> dict[str, Any]:
    store = Store.open(config.store)
    target = Store.create(config.to)
    with store.using(), target.using():
        manifest = Manifest.open(store, config.manifest)
        name = config.out or (config.manifest if config.manifest in store.refs() else None)
        copied = copy(manifest, target, name, config.replace, progress)
    return {**manifest.reference(), **copied, "to": config.to}


def show_copy(result: Mapping[str, Any]) -> str:
    """What was copied."""
    return f"copied {result['files']:,} files, {result['bytes']:,} bytes, to {result['to']}"


app = command_group("Show, verify, compare, copy and export manifests.")
add_stage(app, ShowConfig, run_show, show=show_show, name="show", help="Show a manifest, or all names.")
add_stage(
    app,
    VerifyConfig,
    run_verify,
    show=show_verify,
    name="verify",
    help="Check a manifest and all it stands on.",
)
add_stage(
    app, DiffConfig, run_diff, show=show_diff, name="diff", help="What one manifest has and another has not."
)
add_stage(app, CopyConfig, run_copy, show=show_copy, name="copy", help="Copy a manifest into another store.")
add_stage(app, ExportConfig, run_export, name="export", help="Write a manifest's samples in another format.")
