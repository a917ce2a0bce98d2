"""`imm generate`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infinity_mm.cli.options import stage_command
from infinity_mm.media.errors import MediaError
from infinity_mm.progress import Progress

# options that an answer has no use for
DRAWING = {"prompts", "out", "count", "negative", "guidance", "top_k", "size", "batch"}


class GenerateConfig(BaseModel):
    """Ask a trained model about pictures and clips, or have an Emu3 draw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        description="Folder of an exported model, or `tiny`, which ships and knows scenes only."
    )
    prompt: list[str] = Field(
        [],
        description="What it is asked, pictures and clips before it in this order; or what an Emu3 draws "
        "(repeatable).",
    )
    image: list[Path] = Field([], description="File of a picture to ask about (repeatable).")
    video: list[Path] = Field([], description="File of a clip, after the pictures (repeatable).")
    system: str | None = Field(None, description="What it is told first, as a system turn.")
    prompts: Path | None = Field(None, description="File of prompts to draw, one a line.")
    out: Path | None = Field(
        None,
        description="PNG to draw into; of several pictures the sheet, beside it FILE-001.png and so on.",
    )
    count: int = Field(1, ge=1, description="Pictures to draw of each prompt.")
    negative: str = Field("", description="What drawing leads away from, in place of no prompt at all.")
    guidance: float | None = Field(
        None,
        ge=0,
        description="How strongly a drawing is led to its prompt, 1 not at all [default: the model's].",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        description="0 takes the likeliest token, more draws [default: 0 of answers, the model's of "
        "drawings].",
    )
    top_k: int | None = Field(
        None, ge=0, description="Draw among so many tokens, 0 for all [default: the model's]."
    )
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Draw among the likeliest tokens of this much probability together [default: 1 of "
        "answers, the model's of drawings].",
    )
    size: str | None = Field(
        None, pattern=r"^\d+x\d+$", description="Pixels to draw, WIDTHxHEIGHT [default: the model's]."
    )
    batch: int = Field(64, ge=1, description="Pictures drawn at a time.")
    max_tokens: int = Field(256, ge=1, description="Tokens of the answer at most.")
    seed: int = Field(0, ge=0, description="Of what is drawn by lot; the next picture has the next.")
    device: str | None = Field(None, description="cpu, cuda or cuda:N [default: a GPU where there is one].")

    @model_validator(mode="after")
    def _one_task(self) -> Self:
        asked = "--image" if self.image else "--video" if self.video else None
        useless = sorted(DRAWING & self.model_fields_set)
        if asked and useless:
            raise ValueError(f"--{useless[0].replace('_', '-')} is for drawing, {asked} for asking: give one")
        if asked and len(self.prompt) > 1:
            raise ValueError(f"{len(self.prompt)} prompts: give one about the pictures")
        if self.out is not None and self.out.suffix.lower() != ".png":
            raise ValueError(f"--out {self.out}: give a name that ends in .png")
        return self


def run(config: GenerateConfig, progress: Progress) -> dict[str, Any]:
    """Answer or draw. Raises ValueError for a model or picture that can't be read."""
    from infinity_mm.models.shipped import shipped_folder
    from trainers.emu3.generate import KIND, kind_of

    folder = shipped_folder(config.model)
    kind = kind_of(folder)
    if config.image or config.video:
        return _ask_emu3(config, folder) if kind == KIND else _ask_llava(config, folder)
    if kind == KIND:
        return _draw(config, folder, progress)
    useless = sorted(DRAWING & config.model_fields_set)
    if useless:
        raise ValueError(
            f"--{useless[0].replace('_', '-')}: model {config.model} is a {kind}, which answers and does not "
            "draw; leave it out, or name an Emu3"
        )
    return _ask_llava(config, folder)


def _ask_llava(config: GenerateConfig, folder: Path) -> dict[str, Any]:
    from infinity_mm.schema import Part, Turn
    from trainers.llava.generate import Question, Sampling, open_answerer

    if len(config.prompt) != 1:
        raise ValueError(f"{len(config.prompt)} prompts: give one --prompt, which is what the model is asked")
    kinds = ["image"] * len(config.image) + ["video"] * len(config.video)
    media = [_frames(path, kind) for path, kind in zip([*config.image, *config.video], kinds, strict=True)]
    parts = [*(Part(kind, None, n) for n, kind in enumerate(kinds)), Part("text", config.prompt[0])]
    system = [] if config.system is None else [Turn("system", (Part("text", config.system),))]
    question = Question((*system, Turn("user", tuple(parts))), tuple(media), tuple(kinds))
    answerer = open_answerer(folder, config.device)
    sampling = Sampling(
        **_given(config, temperature=0.0, top_p=1.0), most=config.max_tokens, seed=config.seed
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


def _ask_emu3(config: GenerateConfig, folder: Path) -> dict[str, Any]:
    """An answer about pictures, or their caption where nothing is asked."""
    from trainers.emu3.choose import Sampling
    from trainers.emu3.generate import open_painter

    if config.video:
        raise ValueError(f"--video {config.video[0]}: an Emu3 is asked about pictures; give --image")
    pictures = [_frames(path, "image")[0] for path in config.image]
    sampling = Sampling(**_given(config, temperature=0.0, top_p=1.0))
    painter = open_painter(folder, config.device)
    prompt = config.prompt[0] if config.prompt else None
    answer = painter.ask(
        prompt,
        pictures,
        system=config.system,
        sampling=sampling,
        most=config.max_tokens,
        seed=config.seed,
    )
    return {
        "model": config.model,
        "answer": answer.text,
        "tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "image_tokens": answer.image_tokens,
        "complete": answer.complete,
    }


def _draw(config: GenerateConfig, folder: Path, progress: Progress) -> dict[str, Any]:
    from dataclasses import replace

    from PIL import Image

    from infinity_mm.contact_sheet import contact_sheet
    from trainers.emu3.generate import open_painter

    prompts = [prompt for prompt in _prompts(config) for _ in range(config.count)]
    if config.out is None:
        raise ValueError("--out is missing: FILE.png to draw into, or --image to ask about a picture")
    if config.system is not None:
        raise ValueError("--system: drawing has no system turn; leave it out")
    painter = open_painter(folder, config.device)
    sampling = replace(
        painter.defaults.sampling, **_given(config, guidance=None, temperature=None, top_k=None, top_p=None)
    )
    width, height = map(int, config.size.split("x")) if config.size else (None, None)
    seeds = [config.seed + number for number in range(len(prompts))]
    began = time.monotonic()
    drawn = painter.draw(
        prompts,
        seeds,
        sampling,
        height=height,
        width=width,
        negative=config.negative,
        batch=config.batch,
        progress=progress,
    )
    seconds = time.monotonic() - began
    config.out.parent.mkdir(parents=True, exist_ok=True)
    several = len(drawn) > 1
    places = len(str(len(drawn))) if len(drawn) > 999 else 3
    files = []
    for number, picture in enumerate(drawn, 1):
        name = f"{config.out.stem}-{number:0{places}}.png" if several else config.out.name
        files.append(config.out.with_name(name))
        Image.fromarray(picture.pixels).save(files[-1])
    if several:
        contact_sheet([picture.pixels for picture in drawn], prompts).save(config.out)
    return {
        "model": config.model,
        "out": str(config.out),
        "pictures": [
            {"file": str(file), "prompt": prompt, "seed": seed}
            for file, prompt, seed in zip(files, prompts, seeds, strict=True)
        ],
        "width": int(drawn[0].pixels.shape[1]),
        "height": int(drawn[0].pixels.shape[0]),
        "guidance": sampling.guidance,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "codes": sum(int(picture.codes.size) for picture in drawn),
        "seconds": round(seconds, 3),
    }


def _given(config: GenerateConfig, **defaults: float | None) -> dict[str, Any]:
    """Options with their defaults; None leaves one out that is not given."""
    found = {name: getattr(config, name) for name in defaults}
    found = {name: defaults[name] if value is None else value for name, value in found.items()}
    return {name: value for name, value in found.items() if value is not None}


def _prompts(config: GenerateConfig) -> list[str]:
    """What is to be drawn: the prompts given, then those of the file."""
    found = list(config.prompt)
    if config.prompts is not None:
        lines = config.prompts.read_text(encoding="utf-8").splitlines()
        found += [line.strip() for line in lines if line.strip()]
    if not found:
        where = f" in {config.prompts}" if config.prompts else ""
        raise ValueError(
            f"nothing to draw{where}: give --prompt TEXT, or --prompts FILE with a prompt a line"
        )
    return found


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
    """The answer, or what was drawn and how fast."""
    if "answer" in result:
        return str(result["answer"])
    pictures = result["pictures"]
    size = f"{result['width']} x {result['height']}"
    first, last = pictures[0], pictures[-1]
    what = (
        f"{result['out']}: {size}, seed {first['seed']}"
        if len(pictures) == 1
        else f"{result['out']}: {len(pictures)} pictures of {size}, {first['file']} to {last['file']}, seeds "
        f"{first['seed']} to {last['seed']}"
    )
    rate = result["codes"] / max(result["seconds"], 1e-9)
    return f"{what}; guidance {result['guidance']:g}, {rate:,.0f} codes/s"


app = stage_command(
    GenerateConfig,
    run,
    show=show,
    name="generate",
    help="Ask a trained model about pictures and clips, or have an Emu3 draw.",
)
