"""The card of a model, README.md of its folder: what it was trained on and how, and how well it answers.

It is written from the run itself: the segments that its checkpoints name, the record of each stage, and the
manifests' sources with their licences. `with_scores` puts the numbers of `imm eval` in, blind controls beside
them, and says by itself which types of question are answered no better than blind.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infinity_mm.store import Store
from trainers.card import history, settings, table
from trainers.llava.compose import Composition
from trainers.llava.model import Llava

SHARES = ("exact", "normalised", "value")
SCORES = "<!-- scores -->"  # what `with_scores` writes stands between two of these
NO_SCORES = "Not measured yet: `imm eval --model FOLDER --manifest M --card` writes its numbers here."
USE = """```python
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is in the picture?"}]}
prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
inputs = processor(text=prompt, images=image, return_tensors="pt")
print(processor.decode(model.generate(**inputs)[0], skip_special_tokens=True))
```

or `imm generate --model FOLDER --image FILE --prompt TEXT`; vLLM serves the folder as it is."""


def card(
    title: str, out: Path, about: Mapping[str, Any], store: Store, model: Llava, composition: Composition
) -> str:
    """The card of a model at the end of a stage.

    `out`: the run's folder, with a folder a stage; `about`: what the stage's last checkpoint says of it, its
    `segments` all that was trained on, in order.
    """
    parts = [
        _front(composition),
        f"# {title}",
        _what(model, composition),
        "## Use\n\n" + USE,
        *history(out, about, store),
        f"## Scores\n\n{SCORES}\n{NO_SCORES}\n{SCORES}",
        *settings(about),
    ]
    return "\n\n".join(parts) + "\n"


def with_scores(text: str, result: Mapping[str, Any]) -> str:
    """A card with the scores that `imm eval` gave, in place of earlier ones. Raises ValueError for a text
    that is no card of ours."""
    pieces = text.split(SCORES)
    if len(pieces) != 3:
        raise ValueError(f"the card has no two lines {SCORES}: it is none that imm wrote")
    return f"{pieces[0]}{SCORES}\n{_scores(result)}\n{SCORES}{pieces[2]}"


def _front(composition: Composition) -> str:
    """What the hub reads."""
    bases = [part.named for part in (composition.tower, composition.language) if part.named.count("/") == 1]
    lines = ["---", "library_name: transformers", "pipeline_tag: image-text-to-text", "tags: [infinity-mm]"]
    return "\n".join([*lines, *([f"base_model: [{', '.join(bases)}]"] if bases else []), "---"])


def _what(model: Llava, composition: Composition) -> str:
    parts = {
        f"vision tower ({composition.tower.config.model_type})": model.vision_tower,
        f"projector ({composition.projector})": model.multi_modal_projector,
        f"language model ({composition.language.config.model_type})": model.language_model,
    }
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    geometry = model.geometry
    seen = f"A picture is seen in tiles of {geometry.side}×{geometry.side} pixels"
    if geometry.pinpoints:
        most = max((h // geometry.side) * (w // geometry.side) for h, w in geometry.pinpoints)
        seen += f": a base tile, and a grid of up to {most}."
    else:
        seen += (
            ": one. This folder's readers show it a grid of one beside it, which it was not trained with: "
            "it is a stage to train on from, and its answers here are not those of its training."
        )
    rows = [[name, f"{size:,}"] for name, size in sizes.items()]
    return table(["part", "parameters"], [*rows, ["all", f"{sum(sizes.values()):,}"]]) + f"\n\n{seen}"


def _scores(result: Mapping[str, Any]) -> str:
    """A line a type of question, and the types that are answered no better than blind."""
    controls: Mapping[str, Any] = result["controls"]
    rows, lost = [], []
    for name, row in result["types"].items():
        blind = [right(control["types"].get(name)) for control in controls.values()]
        rows.append(_row(name, row, blind))
        if _is_as_blind(row, blind):
            lost.append(name)
    blind = [right(control) for control in controls.values()]
    rows.append(_row("all questions", result, blind))
    told = [f"On the questions of manifest `{result['manifest']}`."]
    if controls:
        told.append("Blind: with gray pictures (none), with another question's (wrong).")
    told.append("\n\n" + table(["type of question", "questions", *SHARES, *controls], rows))
    if lost:
        told.append(f"\n\nNo better than blind on: {'; '.join(lost)}.")
    return " ".join(told).replace(" \n", "\n")


def right(row: Mapping[str, Any] | None) -> float | None:
    """The share of right answers: by value where it is read, else normalised."""
    if row is None:
        return None
    share: float | None = row["normalised"] if row["value"] is None else row["value"]
    return share


def _is_as_blind(row: Mapping[str, Any], blind: Sequence[float | None]) -> bool:
    """Whether answers are within two standard errors of the best that a blind model scores."""
    share, best = right(row), max((one for one in blind if one is not None), default=None)
    if share is None or best is None:
        return False
    return share <= best + 2 * math.sqrt(best * (1 - best) / row["questions"])


def _row(name: str, row: Mapping[str, Any], blind: Sequence[float | None]) -> list[str]:
    return [name, f"{row['questions']:,}", *(_share(row[key]) for key in SHARES), *map(_share, blind)]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
