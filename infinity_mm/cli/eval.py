"""`imm eval`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli.options import stage_command
from infinity_mm.progress import Progress


class EvalConfig(BaseModel):
    """Ask a trained model the questions of a manifest and score its answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        description="Folder of an exported model, or `tiny`, which ships and knows scenes only."
    )
    manifest: str = Field(description="Manifest whose assistant turns are the right answers.")
    store: str = Field("store", description="Folder or fsspec URL of the store.")
    truth: Path | None = Field(
        None, description="truth.jsonl of `imm scenes`: types of questions, and values read from answers."
    )
    by: str | None = Field(None, description="Field of a sample's meta that tells its type of question.")
    control: list[Literal["none", "wrong"]] = Field(
        [], description="Ask blind too: with gray pictures, with another question's (repeatable)."
    )
    limit: int | None = Field(None, ge=1, description="Ask this many questions at most.")
    seed: int = Field(0, ge=0, description="Of which are asked, and of wrong pictures.")
    batch: int = Field(64, ge=1, description="Questions asked at once.")
    max_tokens: int = Field(64, ge=1, description="Tokens of an answer at most.")
    answers: Path | None = Field(None, description="File to write each answer to, as JSON lines.")
    card: bool = Field(False, description="Write the scores into the model's card.")
    device: str | None = Field(None, description="cpu, cuda or cuda:N [default: a GPU where there is one].")


def run(config: EvalConfig, progress: Progress) -> dict[str, Any]:
    """Ask and score. Raises ValueError for a model or manifest that can't be used."""
    from infinity_mm.manifest import Manifest
    from infinity_mm.models.shipped import shipped_folder
    from infinity_mm.store import Store
    from trainers.emu3.generate import KIND, kind_of, open_painter
    from trainers.emu3.questions import Answers
    from trainers.llava.card import with_scores
    from trainers.llava.evaluate import Answerer, Asking, evaluate, items
    from trainers.llava.generate import open_answerer

    folder = shipped_folder(config.model)
    if config.card and str(folder) != config.model:
        raise ValueError(f"--card: {config.model} ships, and its card with it; name a folder of your own")
    manifest = Manifest.open(Store.open(config.store), config.manifest)
    asked = items(manifest, truth=config.truth, by=config.by, limit=config.limit, seed=config.seed)
    if not asked:
        raise ValueError(f"manifest {config.manifest} has no question: no assistant turn of text alone")
    answerer: Answerer
    if kind_of(folder) == KIND:
        answerer = Answers(open_painter(folder, config.device))
    else:
        answerer = open_answerer(folder, config.device)
    asking = Asking(batch=config.batch, most=config.max_tokens, seed=config.seed)
    result, outcomes = evaluate(answerer, manifest, asked, config.control, asking, progress)
    if config.answers is not None:
        lines = [json.dumps(outcome.row(), ensure_ascii=False) + "\n" for outcome in outcomes]
        config.answers.write_text("".join(lines), encoding="utf-8")
    result = {"model": config.model, "manifest": manifest.file, "digest": manifest.digest, **result}
    if config.card:
        file = folder / "README.md"
        file.write_text(with_scores(file.read_text(encoding="utf-8"), result), encoding="utf-8")
    return result


def show(result: Mapping[str, Any]) -> str:
    """A table: a line a type of question; the value's share, or the normalised, beside those of controls."""
    from trainers.llava.card import right

    controls = list(result["controls"])
    width = max(len("all questions"), *map(len, result["types"]))
    header = f"{'type':<{width}}  {'questions':>9}  {'exact':>6}  {'normal.':>7}  {'value':>6}"
    lines = [header + "".join(f"  {name + ' picture':>13}" for name in controls)]
    rows = [*result["types"].items(), ("all questions", result)]
    for name, row in rows:
        shares = f"{_share(row['exact']):>6}  {_share(row['normalised']):>7}  {_share(row['value']):>6}"
        line = f"{name:<{width}}  {row['questions']:>9,}  {shares}"
        for control in controls:
            blind = result["controls"][control]
            blind = blind if row is result else blind["types"].get(name)
            line += f"  {_share(right(blind)):>13}"
        lines.append(line)
    failed = len(result["failed"])
    return "\n".join([*lines, *([f"{failed:,} questions could not be asked"] if failed else [])])


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


app = stage_command(
    EvalConfig, run, show=show, name="eval", help="Score a trained model's answers to a manifest's questions."
)
