"""An Emu3 as what `imm eval` asks: questions with decoded pictures in, token ids out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainers.emu3.answer import answer
from trainers.emu3.choose import Sampling
from trainers.emu3.generate import Painter
from trainers.emu3.layouts import Layouts, Said, Visual
from trainers.llava.generate import Question
from trainers.llava.generate import Sampling as Asked


class Prompt(NamedTuple):
    """A question as ids, int32 [T]."""

    tokens: np.ndarray


class Answers:
    """Asks a painter's model. `chat` decodes what it answers."""

    def __init__(self, painter: Painter) -> None:
        self.painter = painter

    @property
    def chat(self) -> Layouts:
        return self.painter.layouts

    def document(self, question: Question) -> Prompt:
        """A question's ids. Raises ValueError for a clip, and for a picture that has no grid."""
        if "video" in question.kinds:
            raise ValueError("an Emu3 is asked about pictures, and this shows a clip")
        said = []
        for turn in question.turns:
            pieces: list[str | Visual] = [
                (part.text or "") if part.media is None else self.painter.see(question.media[part.media][0])
                for part in turn.parts
            ]
            said.append(Said(turn.role, tuple(pieces)))
        return Prompt(self.chat.chat_prompt(said))

    def tokens(self, documents: Sequence[Prompt], sampling: Asked) -> list[list[int]]:
        """The answer to each question, without the token that ends it."""
        return answer(
            self.painter.language,
            self.chat.vocabulary,
            [document.tokens.tolist() for document in documents],
            sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p),
            most=sampling.most,
            seeds=[sampling.seed] * len(documents),
        )
