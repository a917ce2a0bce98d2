"""An exported Emu3 at work: pictures from captions, and text about pictures.

`open_painter` takes the folder that transformers loads (`Emu3ForConditionalGeneration`), whoever wrote it.
Weights of the language model are float32 on a CPU and bfloat16 on a GPU, those of the vision tokenizer
float32 anywhere.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from infinity_mm.models.emu3_vq import VisionTokenizer
from infinity_mm.progress import Progress
from infinity_mm.visual_size import SizeRule
from trainers.emu3.answer import GREEDY, answer, room
from trainers.emu3.choose import Sampling
from trainers.emu3.compose import exported
from trainers.emu3.draw import Grid, Language, Wanted, draw
from trainers.emu3.drawing_defaults import Defaults, read_defaults
from trainers.emu3.layouts import Layouts, Said, Visual

KIND = "emu3"  # model_type of an exported folder
RATIO = 5  # of a picture's sides at most, as Emu3's processor has it


class Answer(NamedTuple):
    """What is said about pictures, and tokens."""

    text: str
    tokens: int
    prompt_tokens: int
    image_tokens: int  # of these, those of pictures
    complete: bool  # it ended by itself


class Drawn(NamedTuple):
    """A picture, and its codes."""

    pixels: np.ndarray  # uint8 [H, W, 3]
    codes: np.ndarray  # int32 [rows, columns]


@dataclass(frozen=True, kw_only=True, slots=True)
class Painter:
    """A model with what it takes to draw and to ask it."""

    language: Language
    layouts: Layouts
    eyes: VisionTokenizer
    defaults: Defaults
    areas: tuple[int, int]  # pixels of a picture that is asked about, at least and at most

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        height: int | None = None,
        width: int | None = None,
        negative: str = "",
        batch: int = 64,
        progress: Progress | None = None,
    ) -> list[Drawn]:
        """A picture a prompt, of height x width pixels (the model's own where they are not given).

        `negative`: what guidance leads away from, in place of no caption. `batch`: pictures at a time.
        Raises ValueError for a size that has no grid, and for what does not fit the context.
        """
        rows, columns = self.grid(height or self.defaults.height, width or self.defaults.width)
        bare = self.layouts.image_prompt(negative, rows, columns).tolist()
        wanted = [
            Wanted(
                self.layouts.image_prompt(prompt, rows, columns).tolist(), bare, Grid(1, rows, columns), seed
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        vocabulary = self.layouts.vocabulary
        drawn = draw(self.language, vocabulary, wanted, sampling, batch=batch, progress=progress)
        ids_BN = np.stack(drawn)
        codes_BHW = ids_BN[ids_BN >= vocabulary.visual].reshape(-1, rows, columns) - vocabulary.visual
        pixels = [
            self.eyes.decode_pictures(codes_BHW[at : at + batch]) for at in range(0, len(codes_BHW), batch)
        ]
        return [Drawn(*pair) for pair in zip(np.concatenate(pixels), codes_BHW, strict=True)]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of codes. Raises ValueError for a size that has none."""
        factor = self.eyes.facts.factor
        if min(height, width) < factor or height % factor or width % factor:
            raise ValueError(f"{width} x {height} pixels: give sides that are multiples of {factor}")
        if max(height, width) > RATIO * min(height, width):
            raise ValueError(f"{width} x {height} pixels: one side may be {RATIO} times the other at most")
        return height // factor, width // factor

    def ask(
        self,
        prompt: str | None,
        pictures: Sequence[np.ndarray],
        *,
        system: str | None = None,
        sampling: Sampling = GREEDY,
        most: int = 256,
        seed: int = 0,
    ) -> Answer:
        """The answer about pictures, uint8 [H, W, 3] each; without a prompt the caption it gives them.

        Raises ValueError for what does not fit the context, and for a picture that has no grid.
        """
        seen = [self.see(pixels) for pixels in pictures]
        ids = self.prompt(prompt, seen, system)
        vocabulary = self.layouts.vocabulary
        (said,) = answer(self.language, vocabulary, [ids], sampling=sampling, most=most, seeds=[seed])
        length = sum(self.layouts.visual_length(picture.grid) for picture in seen)
        complete = len(said) < min(most, room(len(ids), self.language))
        return Answer(self.layouts.decode(said).strip(), len(said), len(ids), length, complete)

    def prompt(self, prompt: str | None, seen: Sequence[Visual], system: str | None = None) -> list[int]:
        """The ids that an answer, or a caption, comes after."""
        if prompt is None:
            ids = self.layouts.interleaved(seen).ids[:-1]
        else:
            told = [] if system is None else [Said("system", (system,))]
            ids = self.layouts.chat_prompt([*told, Said("user", (*seen, prompt))])
        return [int(i) for i in ids]

    def see(self, pixels: np.ndarray) -> Visual:
        """A picture's codes, at its own size where that is within the model's areas."""
        least, most = self.areas
        own = pixels.shape[0] * pixels.shape[1]
        rule = SizeRule(min(max(own, least), most), 1, own, self.eyes.facts.factor)
        return Visual(self.eyes.encode_pictures(np.array(rule.apply(pixels))[None]))


def kind_of(folder: Path) -> str:
    """The model type of an exported folder. Raises ValueError for a folder without one."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is no exported model: {error}") from None


def open_painter(folder: Path, device: str | None = None) -> Painter:
    """An exported folder, ready. Raises ValueError, in one line with the way out."""
    kind = kind_of(folder)
    if kind != KIND:
        raise ValueError(f"{folder} is a {kind}, which answers and does not draw: name an exported Emu3")
    there = torch.cuda.is_available()
    device = device or ("cuda" if there else "cpu")
    if device != "cpu" and not there:
        raise ValueError(f"device {device!r}: torch {torch.__version__} sees no GPU here; give cpu")
    composition = exported(folder)
    tokenizer = Tokenizer.from_file(composition.tokenizer)
    _check_names(folder, tokenizer)
    processor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    model = composition.build().language_model.eval()
    return Painter(
        language=model.to(device, torch.float32 if device == "cpu" else torch.bfloat16),
        layouts=Layouts.of(tokenizer, composition.vocabulary),
        eyes=composition.vision.load(device),
        defaults=read_defaults(folder),
        areas=(processor["min_pixels"], processor["max_pixels"]),
    )


def _check_names(folder: Path, tokenizer: Tokenizer) -> None:
    """Raises ValueError where the tokenizer and the model's own map give a name two ids."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name, number in (config.get("vocabulary_map") or {}).items():
        other = tokenizer.token_to_id(name)
        if other not in (None, number):
            raise ValueError(
                f"{folder}: {name} is {other} in tokenizer.json and {number} in config.json: the "
                "tokenizer is another model's"
            )
