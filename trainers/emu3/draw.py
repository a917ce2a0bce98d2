"""Pictures and clips drawn by an Emu3, many at once, every one well formed by construction.

What may come next is arithmetic on the number of codes drawn: codes inside a row, then EOL; after a frame's
last row EOF; after the last frame EOI and EOS. So only the codes' slice of the head is computed, marks are
appended to the call that takes the code before them, and the last three are not computed at all: a picture
of h x w codes takes h * w calls of the model, each over twice as many rows as pictures where there is
guidance (with and without the caption, one cache). Memory is that of one batch's cache, whatever the number
of pictures.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from infinity_mm.progress import Progress
from trainers.emu3.cached import Cached, padded
from trainers.emu3.choose import Sampling, chances, choose, guided
from trainers.emu3.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Emu3TextModel


class Language(Protocol):
    """Emu3ForCausalLM, or what has its parts."""

    model: "Emu3TextModel"
    lm_head: torch.nn.Linear


class Grid(NamedTuple):
    """Codes of a clip; a picture has one frame."""

    frames: int
    rows: int
    columns: int

    @property
    def codes(self) -> int:
        return self.frames * self.rows * self.columns

    @property
    def tokens(self) -> int:
        """With EOL, EOF, EOI and EOS: what comes after a prompt."""
        return self.frames * (self.rows * (self.columns + 1) + 1) + 2


class Wanted(NamedTuple):
    """A picture to draw."""

    prompt: Sequence[int]  # all ids up to and with IMG
    bare: Sequence[int]  # the same without the caption, or with a negative one: what guidance leads away from
    grid: Grid  # as the prompt says it
    seed: int = 0  # of this picture: it is the same in any batch, up to rounding


@torch.inference_mode()
def draw(
    language: Language,
    vocabulary: Vocabulary,
    wanted: Sequence[Wanted],
    sampling: Sampling,
    *,
    batch: int = 64,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """The ids after IMG of each picture, int32 [grid.tokens], EOS included.

    `batch`: pictures at a time. Raises ValueError for one that does not fit the model's context.
    """
    context = language.model.config.max_position_embeddings
    for picture in wanted:
        fits(max(len(picture.prompt), len(picture.bare)), picture.grid, context)
    found: dict[int, np.ndarray] = {}
    if progress:
        progress.start("drawing", sum(picture.grid.codes for picture in wanted), "codes")
    for places in _batches(wanted, batch):
        rows = _drawn(language, vocabulary, [wanted[place] for place in places], sampling, progress)
        found.update(zip(places, rows, strict=True))
    if progress:
        progress.done()
    return [found[place] for place in range(len(wanted))]


def fits(prompt: int, grid: Grid, context: int) -> None:
    """Raises ValueError where a prompt of so many tokens and its picture pass the context."""
    if prompt + grid.tokens > context:
        shape = f"{grid.rows}×{grid.columns}" + (f" by {grid.frames} frames" if grid.frames > 1 else "")
        raise ValueError(
            f"a prompt of {prompt:,} tokens and a picture of {grid.tokens:,} ({shape} codes) do not fit the "
            f"model's context of {context:,}: give a shorter prompt or a smaller picture"
        )


def marks(grid: Grid, vocabulary: Vocabulary) -> list[tuple[int, ...]]:
    """The marks after each code."""
    last = (vocabulary.eof, vocabulary.eoi, vocabulary.eos)
    found: list[tuple[int, ...]] = []
    for code in range(1, grid.codes + 1):
        row = (vocabulary.eol,) if code % grid.columns == 0 else ()
        frame = (vocabulary.eof,) if code % (grid.rows * grid.columns) == 0 else ()
        found.append((*row, *(last if code == grid.codes else frame)))
    return found


def _batches(wanted: Sequence[Wanted], most: int) -> Iterator[list[int]]:
    """Places of pictures of one grid, prompts of about the same length together."""
    order = sorted(range(len(wanted)), key=lambda place: (wanted[place].grid, len(wanted[place].prompt)))
    batch: list[int] = []
    for place in order:
        if len(batch) == most or (batch and wanted[batch[0]].grid != wanted[place].grid):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _drawn(
    language: Language,
    vocabulary: Vocabulary,
    pictures: Sequence[Wanted],
    sampling: Sampling,
    progress: Progress | None,
) -> np.ndarray:
    """The ids of pictures of one grid, int32 [B, tokens]."""
    device, grid = language.lm_head.weight.device, pictures[0].grid
    prompts = [list(picture.prompt) for picture in pictures]
    copies = 1 if sampling.guidance == 1 else 2
    if copies == 2:
        prompts += [list(picture.bare) for picture in pictures]
    tokens_RN, ahead_R = padded(prompts, vocabulary.pad)
    cached = Cached(language.model, ahead_R, tokens_RN.shape[1] + grid.tokens)
    head_VW = language.lm_head.weight[vocabulary.visual : vocabulary.visual + vocabulary.codes]
    chance_BN = chances([picture.seed for picture in pictures], grid.codes).to(device)
    tokens_RN = tokens_RN.to(device)
    drawn = []
    for place, after in enumerate(marks(grid, vocabulary)):
        logits_RV = (cached.append(tokens_RN) @ head_VW.T).float()
        code_B = choose(guided(logits_RV, sampling.guidance), chance_BN[:, place], sampling)
        marks_BN = code_B.new_tensor(after).expand(len(code_B), -1)
        tokens_BN = torch.cat([code_B[:, None] + vocabulary.visual, marks_BN], dim=1)
        drawn.append(tokens_BN)
        tokens_RN = tokens_BN.repeat(copies, 1)
        if progress:
            progress.advance(len(pictures))
    return torch.cat(drawn, dim=1).int().cpu().numpy()
