"""`imm train llava` and `imm train emu3`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli.options import add_stage, command_group
from infinity_mm.progress import Progress


class TrainConfig(BaseModel):
    """Train a model in the stages of a recipe, or go on with one that was interrupted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Path = Field(description="Recipe: a YAML file, or the name of a shipped one.")
    stage: str | None = Field(None, description="Run this stage only; the one before must have ended.")
    plan: bool = Field(False, description="Tell what it will take, and train nothing.")
    resume: Path | None = Field(
        None, description="Checkpoint to go on from, of the stage given [default: the newest sound one]."
    )
    changed: bool = Field(
        False, description="Go on although data or settings differ from the checkpoint's: a new segment."
    )
    store: str | None = Field(None, description="Store to use instead of the recipe's.")
    out: Path | None = Field(None, description="Folder to train in instead of the recipe's.")
    device: str | None = Field(None, description="cpu or cuda [default: a GPU where there is one].")


class LlavaConfig(TrainConfig):
    """Train a LLaVA-style model in the stages of a recipe, or go on with one that was interrupted."""

    config: Path = Field(
        description="Recipe: a YAML file, or the name of a shipped one (aquila_vl_2b, tiny)."
    )


class Emu3Config(TrainConfig):
    """Train an Emu3-style model in the stages of a recipe, or go on with one that was interrupted."""

    config: Path = Field(description="Recipe: a YAML file, or the name of a shipped one (emu3_8b, tiny).")


def run_llava(config: LlavaConfig, progress: Progress) -> dict[str, Any]:
    """Train, or plan, a LLaVA-style model."""
    from trainers.llava.config import read
    from trainers.llava.train import LlavaTrainer

    return run(config, read, LlavaTrainer, progress)


def run_emu3(config: Emu3Config, progress: Progress) -> dict[str, Any]:
    """Train, or plan, an Emu3-style model."""
    from trainers.emu3.config import read
    from trainers.emu3.train import Emu3Trainer

    return run(config, read, Emu3Trainer, progress)


def run(config: TrainConfig, read: Any, trainer: Any, progress: Progress) -> dict[str, Any]:
    """Train, or plan. Ranks of torchrun but the first print nothing on stdout."""
    from dataclasses import replace

    if int(os.environ.get("RANK", "0")):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]
    if config.resume and not config.stage:
        raise ValueError(f"--resume {config.resume}: name its stage too, with --stage")
    recipe = read(config.config)
    recipe = replace(recipe, store=config.store or recipe.store, out=str(config.out or recipe.out))
    if config.plan:
        from trainers.forecast import forecast

        return forecast(recipe, trainer, config.stage, config.device, progress)
    from trainers.stages import Options
    from trainers.stages import run as train

    options = Options(config.stage, config.resume, config.changed, config.device)
    result = train(recipe, trainer, options, progress)
    return {**result, "ok": result["stopped"] is None}


def show(result: Mapping[str, Any]) -> str:
    """The plan as a table, or what each stage came to."""
    if "forecast" in result:
        from trainers.forecast import table

        return table(result)
    lines = []
    for stage in result["stages"]:
        done = f"step {stage['step']:,} of {stage['steps']:,}, {stage['samples']:,} samples"
        if stage["stopped"]:
            lines.append(
                f"stage {stage['stage']}: stopped by {stage['stopped']} after {done}: run it again to go on"
            )
        else:
            earlier = "had ended" if stage["skipped"] else "ended"
            lines.append(f"stage {stage['stage']}: {earlier} at {done}; model in {stage['export']}")
    return "\n".join(lines)


app = command_group("Train a model on manifests.")
add_stage(
    app,
    LlavaConfig,
    run_llava,
    name="llava",
    help="Train a LLaVA-style model in the stages of a recipe.",
    show=show,
)
add_stage(
    app,
    Emu3Config,
    run_emu3,
    name="emu3",
    help="Train an Emu3-style model in the stages of a recipe.",
    show=show,
)
