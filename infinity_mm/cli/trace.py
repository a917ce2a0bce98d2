"""`imm trace`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli.options import stage_command
from infinity_mm.progress import Progress
from infinity_mm.store import Store
from infinity_mm.trace import trace


class TraceConfig(BaseModel):
    """Tell one sample's whole life."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(
        description="Sample or medium id (8 or more characters of it), or an origin such as train.jsonl:17.",
        json_schema_extra={"positional": True},
    )
    store: str = Field("store", description="Folder or fsspec URL of the store.")
    manifest: str | None = Field(None, description="Look at this manifest and what it came from only.")
    runs: list[Path] = Field(
        [], description="Folder of training runs: tell which checkpoints saw it (repeatable)."
    )


def run(config: TraceConfig, progress: Progress) -> dict[str, Any]:
    store = Store.open(config.store)
    result = trace(store, config.id, config.manifest)
    if config.runs:
        from trainers.seen import seen  # torch is heavy: only where it is asked for

        identities = [bytes.fromhex(sample["sample_id"]) for sample in result["samples"]]
        result["checkpoints"] = seen(store, config.runs, identities)
    return result


def show(result: Mapping[str, Any]) -> str:
    """The conversation, the media, and what each stage did."""
    lines: list[str] = []
    for sample in result["samples"]:
        lines += [f"sample {sample['sample_id']}", f"  from {sample['origin']} ({sample['source']})"]
        if "withdrawn" in sample:
            lines.append(f"  WITHDRAWN: {sample['withdrawn']}")
        for medium in sample["media"]:
            size = f"{medium.get('format', '?')} {medium.get('width')}×{medium.get('height')}"
            gone = f"  WITHDRAWN: {medium['withdrawn']}" if "withdrawn" in medium else ""
            lines.append(
                f"  {medium.get('kind', 'medium')} {medium['media_id']} {medium['name']} ({size}){gone}"
            )
        lines += [f"  {turn['role']}: {' '.join(turn['parts'])}" for turn in sample["turns"]]
        lines += [f"  {_step(step)}" for step in sample["life"]]
    lines += [_checkpoint(one) for one in result.get("checkpoints", ())]
    for record in result["rejected_records"]:
        lines += [f"record {record['origin']} ({record['source']}): {_step(record)}"]
    return "\n".join(lines)


def _step(step: Mapping[str, Any]) -> str:
    if step["outcome"] in ("kept", "made"):
        weight = "" if step.get("weight") == 1 else f", weight {step['weight']:g}"
        parents = f" from {', '.join(step['parents'])}" if "parents" in step else ""
        return f"{_where(step)}: {step['outcome']}{parents}{weight}"
    parts = [f"{_where(step)}: {step['outcome']}, {step['reason']}"]
    if "value" in step:
        parts[0] += f": {step['value']} (kept is: {step.get('limit')})"
    if "detail" in step:
        parts.append(step["detail"])
    for name, words in (("witness", "witness"), ("child", "merged into")):
        if name in step:
            parts.append(f"{words} {step[name]}{_now(step.get(f'{name}_now', {}))}")
    if "others" in step:
        parts.append(f"also {', '.join(step['others'])}")
    return "; ".join(parts)


def _checkpoint(told: Mapping[str, Any]) -> str:
    """What a checkpoint saw, in a line."""
    if "error" in told:
        return f"checkpoint {told['checkpoint']}: damaged: {told['error']}"
    parts = [
        f"saw {identity} " + ", ".join(f"{times}× in {stage}" for stage, times in stages.items())
        for identity, stages in told["saw"].items()
    ]
    parts += [
        f"perhaps saw {identity} in {', '.join(stages)}: it lies within a group of steps that has it"
        for identity, stages in told.get("perhaps", {}).items()
    ]
    parts += [f"left {identity} out: {why}" for identity, why in told.get("left_out", {}).items()]
    parts += [f"not all of manifests {files} is in this store" for files in told.get("unknown", ())]
    return f"checkpoint {told['checkpoint']}: {'; '.join(parts) or 'did not see it'}"


def _where(stage: Mapping[str, Any]) -> str:
    return f"{stage['stage']} → {'/'.join(stage['names']) or stage['manifest']}"


def _now(now: Mapping[str, Any]) -> str:
    """What became of what stands for a sample."""
    parts = [f"WITHDRAWN: {now['withdrawn']}"] if "withdrawn" in now else []
    if now.get("in"):
        parts.append("still in " + ", ".join("/".join(one["names"]) or one["manifest"] for one in now["in"]))
    parts += [f"dropped later by {_step(step)}" for step in now.get("dropped", ())]
    return f" ({'; '.join(parts)})" if parts else ""


app = stage_command(TraceConfig, run, show=show, name="trace", help="Tell one sample's whole life.")
