"""The card of an Emu3-style model, README.md of its folder: what it is, and how it was trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infinity_mm.store import Store
from trainers.card import history, settings, table
from trainers.emu3.compose import Composition
from trainers.emu3.model import Emu3

USE = """```
imm generate --model FOLDER --prompt "a red circle" --out picture.png
imm generate --model FOLDER --prompt "What is in the picture?" --image picture.png
```

transformers loads the folder as it is (`Emu3ForConditionalGeneration`, `AutoProcessor`). Its versions 4.57 to
5.5 ignore `pixel_values`: put a picture's ids into `input_ids` there."""


def card(
    title: str, out: Path, about: Mapping[str, Any], store: Store, model: Emu3, composition: Composition
) -> str:
    """The card of a model at the end of a stage; arguments as `trainers.card.history` has them."""
    parts = [
        _front(composition),
        f"# {title}",
        _what(model, composition),
        "## Use\n\n" + USE,
        *history(out, about, store),
        *settings(about),
    ]
    return "\n\n".join(parts) + "\n"


def _front(composition: Composition) -> str:
    """What the hub reads."""
    lines = ["---", "library_name: transformers", "pipeline_tag: any-to-any", "tags: [infinity-mm, emu3]"]
    named = composition.named
    return "\n".join([*lines, *([f"base_model: [{named}]"] if named.count("/") == 1 else []), "---"])


def _what(model: Emu3, composition: Composition) -> str:
    vocabulary, facts = composition.vocabulary, composition.vision.facts
    language = sum(p.numel() for p in model.parameters())
    vision = sum(value.numel() for value in composition.vision.weights.values())
    rows = [["language model", f"{language:,}"], ["vision tokenizer", f"{vision:,}"]]
    told = (
        f"Next-token prediction over one vocabulary of {vocabulary.size:,} ids: {vocabulary.text:,} of text, "
        f"marks, and {vocabulary.codes:,} codes. A code stands for {facts.factor}x{facts.factor} pixels; the "
        f"vision tokenizer's digest is `{facts.digest[:16]}`."
    )
    return table(["part", "parameters"], [*rows, ["both", f"{language + vision:,}"]]) + f"\n\n{told}"
