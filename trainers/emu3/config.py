"""The recipe of an Emu3-style model: what it is composed of, and the stages it is trained in, as data.

    model: {language_model: {hidden_size: 4096, …}, tokenizer: BAAI/Emu3-Chat-hf,
            vision_tokenizer: BAAI/Emu3-VisionTokenizer}
    stages:
      - {name: pretrain, data: {captions: 1, text: 1}, drawn: 0.5, null_prompt: 0.1, length: 5120, …}
      - {name: instruct, data: {questions: 1}, answers_only: true, …}

`read` makes a `Recipe` of such a file and says every error by field, value and way out.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers import recipe as recipes
from trainers.config import not_negative, setting, share

SHIPPED = Path(__file__).parent
CAPTIONS = (  # what is said to ask for a caption: patterns as of file names, in lower case
    *("", "describe th*", "please describe th*", "give a * description of th*", "write a caption *"),
    *("what does th* show?", "what can you see here?", "what is in th?? image?", "what is in th?? picture?"),
    *("what happens in th?? video?", "描述这*", "请*说明。", "图中有什么？", "这*展示了什么？"),
    *("你看到了什么？", "视频里发生了什么？"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What the model is composed of."""

    language_model: str | dict[str, Any]  # folder or hub id of an Emu3, or fields of Emu3TextConfig for a
    # new one with random weights; its vocabulary is that of the tokenizers
    tokenizer: str  # of text: folder or hub id with a tokenizer.json; `tiny` is the shared small one
    vision_tokenizer: str  # folder or hub id: the one that made the data's tokens
    qk_norm: bool = False  # RMSNorm of each head's queries and keys (Emu3.5): such a model can't be exported
    z_loss: float = setting(0.0, limit=not_negative)  # weight of the square of log Z, such as 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class LossWeights:
    """What a token's loss counts, by its kind."""

    text: float = setting(1.0, limit=not_negative)
    vision: float = setting(0.5, limit=not_negative)  # codes; 0.5 in Emu3's pre-training
    marks: float = setting(1.0, limit=not_negative)  # BOI, the grid's text, IMG, EOL, EOF, EOI and EOS


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage(recipes.Stage):
    """One stage: data, how it is laid out, what is trained, and how fast."""

    weights: LossWeights = field(default_factory=LossWeights)
    answers_only: bool = False  # instruction tuning: every sample is a chat, and only what the assistant says
    # and the EOS after it has a loss
    captions: tuple[str, ...] = CAPTIONS  # patterns of what is said by a user who asks for a caption
    drawn: float = setting(0.5, limit=share)  # share of captioned pictures that come after their caption
    null_prompt: float = setting(0.0, limit=share)  # share of those whose caption is left out, for guidance


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(recipes.Recipe):
    """A model, its stages in order, and how they are run."""

    model: Parts
    stages: tuple[Stage, ...]
    out: str = "runs/emu3"  # a folder a stage is made in it


def recipe(values: Any) -> Recipe:
    """A recipe from plain values, `each` merged into every stage. Raises ValueError."""
    return recipes.recipe(Recipe, values)


def read(path: Path) -> Recipe:
    """The recipe in a file, or the shipped one of that name. Raises ValueError."""
    return recipes.read(Recipe, path, SHIPPED)
