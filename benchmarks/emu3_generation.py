"""Codes drawn a second beside `transformers.generate` with guidance, on the same weights, in one run.

    python benchmarks/emu3_generation.py                       random weights in two sizes
    python benchmarks/emu3_generation.py --model FOLDER        an exported Emu3
    python benchmarks/emu3_generation.py --sizes emu3-vocabulary --device cuda

tiny              2.5 million weights, 4,617 ids of which 512 codes, pictures of 8 x 8 codes
emu3-vocabulary   width 256, 4 layers, the published 184,622 ids of which 32,768 codes, 16 x 16 codes

Both draw the same captions greedily with guidance 3 in float32, rows of a batch padded on the left;
transformers is held to the grid by a function of the ids, as the documentation of its Emu3 does, and runs
the unconditional rows by its own guidance, a second call a token. `same`: pictures whose codes are equal.
The codes themselves do not change how long a picture takes.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from infinity_mm.models.tokenizer import tokenizer
from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.emu3.choose import Sampling
from trainers.emu3.compose import exported
from trainers.emu3.draw import Grid, Wanted, draw, marks
from trainers.emu3.layouts import Layouts
from trainers.emu3.vocabulary import EMU3, Vocabulary, scaled

GREEDY = Sampling(temperature=0.0, guidance=3.0)
CAPTIONS = (
    "A large red star.",
    "There is a small blue circle in the upper left.",
    "The picture shows a large green cross.",
    "A small yellow triangle.",
)


class Case(NamedTuple):
    """A model, and the pictures it is to draw."""

    language: Any
    vocabulary: Vocabulary
    grid: Grid


def random(size: str) -> Case:
    """A model with random weights."""
    import_torchvision()
    from transformers import Emu3ForCausalLM, Emu3TextConfig

    small = size == "tiny"
    vocabulary = scaled(tokenizer(), 512) if small else EMU3
    config = Emu3TextConfig(
        vocab_size=vocabulary.size,
        hidden_size=160 if small else 256,
        intermediate_size=448 if small else 704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
    )
    torch.manual_seed(0)
    return Case(Emu3ForCausalLM(config), vocabulary, Grid(1, 8, 8) if small else Grid(1, 16, 16))


def of_folder(folder: Path) -> Case:
    made = exported(folder)
    return Case(made.build().language_model, made.vocabulary, Grid(1, 8, 8))


def by_transformers(case: Case, wanted: list[Wanted]) -> list[list[int]]:
    """The ids after IMG of each picture, all of them one batch."""
    vocabulary, grid = case.vocabulary, case.grid
    codes = list(range(vocabulary.visual, vocabulary.visual + vocabulary.codes))
    order = [
        codes if place == 0 else [i]
        for after in marks(grid, vocabulary)
        for place, i in enumerate((0, *after))
    ]
    longest = max(len(one.prompt) for one in wanted)

    def rows(prompts: list[list[int]], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        ahead = [longest - len(prompt) for prompt in prompts]
        ids = [[vocabulary.pad] * gap + prompt for gap, prompt in zip(ahead, prompts, strict=True)]
        seen = [[0] * gap + [1] * len(prompt) for gap, prompt in zip(ahead, prompts, strict=True)]
        return tuple(torch.tensor(x, device=case.language.device) for x in (ids, seen))  # type: ignore[return-value]

    ids, mask = rows([list(one.prompt) for one in wanted], longest)
    bare, bare_mask = rows([list(one.bare) for one in wanted], len(wanted[0].bare))
    found = case.language.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=grid.tokens,
        do_sample=False,
        guidance_scale=GREEDY.guidance,
        negative_prompt_ids=bare,
        negative_prompt_attention_mask=bare_mask,
        prefix_allowed_tokens_fn=lambda _, row: order[len(row) - longest],
    )
    return [[int(i) for i in row[longest:]] for row in found]


def measure(name: str, case: Case, batches: list[int], repeats: int) -> None:
    layouts = Layouts.of(tokenizer(), case.vocabulary)
    language, grid = case.language, case.grid
    language.set_attn_implementation("sdpa")
    bare = layouts.image_prompt("", grid.rows, grid.columns).tolist()
    for batch in batches:
        wanted = [
            Wanted(layouts.image_prompt(CAPTIONS[n % 4], grid.rows, grid.columns).tolist(), bare, grid, n)
            for n in range(batch)
        ]
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(repeats + 1):  # in turn, the first to warm up
            began = time.perf_counter()
            drawn = draw(language, case.vocabulary, wanted, GREEDY, batch=batch)
            middle = time.perf_counter()
            found = by_transformers(case, wanted)
            if turn:
                ours.append(middle - began)
                theirs.append(time.perf_counter() - middle)
        same = sum(a.tolist() == b for a, b in zip(drawn, found, strict=True))
        mine, other = (batch * grid.codes / statistics.median(spent) for spent in (ours, theirs))
        print(f"{name:18}{batch:6}{mine:12,.0f}{other:14,.0f}{mine / other:8.1f}{same:6}/{batch}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "emu3-vocabulary"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    cases = {"model": of_folder(given.model)} if given.model else {name: random(name) for name in given.sizes}
    print(f"codes a second; medians of {given.repeats}, {given.device}, {torch.get_num_threads()} threads\n")
    print(f"{'':18}{'batch':>6}{'here':>12}{'transformers':>14}{'times':>8}{'same':>8}")
    for name, case in cases.items():
        case.language.eval().to(given.device)
        measure(name, case, given.batch, given.repeats)


if __name__ == "__main__":
    main()
