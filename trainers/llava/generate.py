"""Answers of a model: greedy or drawn, with a cache of keys and values, many questions at once.

Questions are padded on the left to the longest of a batch. Greedy answers are the same in any batch up to
rounding, and those of transformers and vLLM on the exported folder; drawn ones are the same for the same seed
and batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from infinity_mm.schema import Turn
from trainers.attention import NAME
from trainers.batch import Document
from trainers.llava.compose import Composition, exported
from trainers.llava.documents import Encoding, Medium, frames_of, join, lay_out
from trainers.llava.model import Llava
from trainers.llava.tiles import tiles


class Question(NamedTuple):
    """A conversation that wants its next answer.

    `media`: the pictures and clips that its parts name, each as frames, uint8 [height, width, 3] RGB,
    upright; a picture is one frame and `kinds` says "image" of it, of a clip "video".
    """

    turns: tuple[Turn, ...]
    media: tuple[Sequence[np.ndarray], ...] = ()
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are chosen."""

    temperature: float = 0.0  # 0 takes the likeliest
    top_p: float = 1.0  # draws among the likeliest tokens that have this much probability together
    most: int = 256  # tokens of an answer
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature}: give 0 for the likeliest, or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: give more than 0, at most 1")
        if self.most < 1:
            raise ValueError(f"most {self.most}: give 1 token or more")


class Answerer:
    """A model with what it takes to ask it in words and pictures."""

    def __init__(self, model: Llava, composition: Composition) -> None:
        self.model = model.eval()
        self.fill = composition.fill
        self.chat = composition.tokens.chat
        eos = composition.tokens.tokenizer.eos_token_id
        self.ends = {self.chat.end_id} | ({eos} if eos is not None else set())

    def document(self, question: Question) -> Document:
        """A question as tokens and tiles. Raises ValueError where the chat template refuses it."""
        encoding = Encoding(chat=self.chat, geometry=self.model.geometry)
        seen = [[frames[n] for n in frames_of(len(frames), encoding.frames)] for frames in question.media]
        media = [
            Medium(kind, frames[0].shape[1], frames[0].shape[0], len(frames))
            for kind, frames in zip(question.kinds, seen, strict=True)
        ]
        laid = lay_out(question.turns, media, encoding, prompt=True)
        side = self.model.geometry.side
        cut = [np.zeros((0, 3, side, side), np.uint8)]
        for visual, number in zip(laid.visuals, laid.media, strict=True):
            cut.append(tiles(seen[number], visual, self.model.geometry, self.fill))
        return Document(b"", 0, laid.tokens, laid.supervised, laid.visuals, np.concatenate(cut))

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question], sampling: Sampling | None = None) -> list[str]:
        """The answer to each question, all of them one batch."""
        chosen = self.tokens([self.document(question) for question in questions], sampling or Sampling())
        return [self.chat.decode(ids).strip() for ids in chosen]

    @torch.inference_mode()
    def tokens(self, documents: Sequence[Document], sampling: Sampling) -> list[list[int]]:
        """The tokens of the answer to each document, without the one that ends it."""
        model, device = self.model, self.model.image_newline.device
        pack = join(documents, model.geometry.side).to(device)
        lengths = [len(document.tokens) for document in documents]
        rows = torch.split(model.embed(pack), lengths)
        longest = max(lengths)
        embedded_BTD = torch.stack(
            [torch.cat([row.new_zeros(longest - len(row), row.shape[1]), row]) for row in rows]
        )
        ahead_B = torch.tensor([longest - length for length in lengths], device=device)
        mask_BT = torch.arange(longest, device=device)[None] >= ahead_B[:, None]
        generator = torch.Generator(device).manual_seed(sampling.seed)
        answers: list[list[int]] = [[] for _ in documents]
        open_ = list(range(len(documents)))
        with _cached_attention(model):
            for ids in self._steps(embedded_BTD, mask_BT, sampling, generator):
                open_ = [row for row in open_ if ids[row] not in self.ends]
                for row in open_:
                    answers[row].append(ids[row])
                if not open_:
                    break
        return answers

    def _steps(
        self,
        embedded_BTD: torch.Tensor,
        mask_BT: torch.Tensor,
        sampling: Sampling,
        generator: torch.Generator,
    ) -> Iterator[list[int]]:
        """The next token of every row, again and again."""
        from transformers import DynamicCache

        language = self.model.language_model
        cache = DynamicCache()
        positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
        for _ in range(sampling.most):
            found = language.model(
                inputs_embeds=embedded_BTD,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
            )
            logits_BV = language.lm_head(found.last_hidden_state[:, -1]).float()
            next_B = choose(logits_BV, sampling, generator)
            yield next_B.tolist()
            embedded_BTD = language.model.embed_tokens(next_B)[:, None]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], dim=1)
            positions_BT = positions_BT[:, -1:] + 1


def open_answerer(folder: Path, device: str | None = None) -> Answerer:
    """An exported folder, ready to be asked: float32 on a CPU, bfloat16 on a GPU. Raises ValueError."""
    there = torch.cuda.is_available()
    device = device or ("cuda" if there else "cpu")
    if device != "cpu" and not there:
        raise ValueError(f"device {device!r}: torch {torch.__version__} sees no GPU here; give cpu")
    composition = exported(folder)
    model = composition.build(torch.float32 if device == "cpu" else torch.bfloat16)
    return Answerer(model.to(device), composition)


def choose(logits_BV: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """A token for each row, int64 [B]."""
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    ranked_BV, token_BV = logits_BV.div(sampling.temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    before_BV = ranked_BV.cumsum(dim=-1) - ranked_BV
    ranked_BV = ranked_BV.masked_fill(before_BV >= sampling.top_p, 0)
    place_B1 = torch.multinomial(ranked_BV, 1, generator=generator)
    return token_BV.gather(1, place_B1)[:, 0]


@contextmanager
def _cached_attention(model: Llava) -> Iterator[None]:
    """Let the language model attend to padded rows and a cache, which packed documents have not."""
    language = model.language_model
    language.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        language.set_attn_implementation(NAME)
