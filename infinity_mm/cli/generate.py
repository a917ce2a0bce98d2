"""`imm generate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm.cli.options import stage_command
from infinity_mm.media.errors import MediaError
from infinity_mm.progress import Progress


class GenerateConfig(BaseModel):
    """Ask a trained model about pictures and clips."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        description="Folder of an exported model, or `tiny`, which ships and knows scenes only."
    )
    prompt: str = Field(description="What it is asked; pictures and clips come before it, in this order.")
    image: list[Path] = Field([], description="File of a picture (repeatable).")
    video: list[Path] = Field([], description="File of a clip, after the pictures (repeatable).")
    system: str | None = Field(None, description="What it is told first, as a system turn.")
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token, more draws.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Draw among the likeliest tokens of this much probability together."
    )
    max_tokens: int = Field(256, ge=1, description="Tokens of the answer at most.")
    seed: int = Field(0, ge=0, description="Of what is drawn.")
    device: str | None = Field(None, description="cpu, cuda or cuda:N [default: a GPU where there is one].")


def run(config: GenerateConfig, progress: Progress) -> dict[str, Any]:
    """Answer. Raises ValueError for a model or picture that can't be read."""
    from infinity_mm.models.shipped import vlm_folder
    from infinity_mm.schema import Part, Turn
    from trainers.llava.generate import Question, Sampling, open_answerer

    kinds = ["image"] * len(config.image) + ["video"] * len(config.video)
    media = [_frames(path, kind) for path, kind in zip([*config.image, *config.video], kinds, strict=True)]
    parts = [*(Part(kind, None, n) for n, kind in enumerate(kinds)), Part("text", config.prompt)]
    system = [] if config.system is None else [Turn("system", (Part("text", config.system),))]
    question = Question((*system, Turn("user", tuple(parts))), tuple(media), tuple(kinds))
    answerer = open_answerer(vlm_folder(config.model), config.device)
    sampling = Sampling(
        temperature=config.temperature, top_p=config.top_p, most=config.max_tokens, seed=config.seed
    )
    document = answerer.document(question)
    (ids,) = answerer.tokens([document], sampling)
    return {
        "model": config.model,
        "answer": answerer.chat.decode(ids).strip(),
        "tokens": len(ids),
        "prompt_tokens": len(document.tokens),
        "image_tokens": sum(answerer.model.geometry.tokens(visual) for visual in document.visuals),
        "complete": len(ids) < config.max_tokens,
    }


def _frames(path: Path, kind: str) -> list[Any]:
    """A picture, or the frames of a clip, uint8 [H, W, 3]."""
    from infinity_mm.media.decode import decode_image
    from infinity_mm.media.video import iter_frames

    data = path.read_bytes()
    try:
        return list(iter_frames(data)) if kind == "video" else [decode_image(data).pixels]
    except MediaError as error:
        raise ValueError(f"{path} can't be read as {kind}: {error}") from None


def show(result: Mapping[str, Any]) -> str:
    """The answer."""
    return str(result["answer"])


app = stage_command(
    GenerateConfig, run, show=show, name="generate", help="Ask a trained model about pictures and clips."
)
