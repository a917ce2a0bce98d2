"""Do an Emu3's drawings show what was asked? Agreement with captions of one object, by settings of drawing.

    python benchmarks/emu3_drawing.py FOLDER                    an exported Emu3 that was trained on scenes
    python benchmarks/emu3_drawing.py FOLDER --captions 200 --guidance 1 2 --temperature 0.7 1 --top-k 0 50
    python benchmarks/emu3_drawing.py FOLDER --write            the best setting becomes the model's own

Captions are those of scenes drawn by lot from a seed of their own. The judge
(infinity_mm/scenes/recognise.py) has no trained part; first it is measured itself, on true scenes as drawn,
after JPEG, blurred, and after the model's own vision tokenizer: recall is the share of true scenes of a kind
that it names so, precision the share of those named so that are.

both      pictures that show the asked colour and the asked shape, and nothing else
others'   the same pictures against the captions of others: what comes without reading the caption
plus      binomial 95 % interval of `both`, half its width
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from infinity_mm.scenes.captions import caption
from infinity_mm.scenes.draw import picture
from infinity_mm.scenes.recognise import Seen, recognise
from infinity_mm.scenes.world import COLOURS, SHAPES, Scene, draw_shapes
from trainers.emu3.choose import Sampling
from trainers.emu3.drawing_defaults import write_defaults
from trainers.emu3.generate import Painter, open_painter

SEED = 20_250_607  # no training set is made from it
Pixels = np.ndarray


class Share(NamedTuple):
    """How often colour, shape and both agree."""

    colour: float
    shape: float
    both: float


def scenes(number: int, language: str, seed: int = SEED) -> tuple[list[Scene], list[str]]:
    """Scenes of one object, and their captions."""
    rng = np.random.default_rng(seed)
    found = [draw_shapes(rng, 64, 1) for _ in range(number)]
    return found, [caption(scene, language, rng) for scene in found]


def agreement(seen: Sequence[Seen], asked: Sequence[Scene]) -> Share:
    colour, shape = (
        np.array([getattr(a, what) == getattr(b.things[0], what) for a, b in zip(seen, asked, strict=True)])
        for what in ("colour", "shape")
    )
    return Share(float(colour.mean()), float(shape.mean()), float((colour & shape).mean()))


def others(asked: Sequence[Scene]) -> list[Scene]:
    """Each scene's place taken by another, the same way each time."""
    return [*asked[1:], asked[0]]


def jpeg(image: Image.Image) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, subsampling=0)
    return np.asarray(Image.open(buffer).convert("RGB"))


def judge(painter: Painter | None, number: int) -> None:
    """Print how right the judge is on true scenes."""
    asked, _ = scenes(number, "en")
    wears: dict[str, Callable[[Image.Image], Pixels]] = {
        "as drawn": np.asarray,
        "JPEG 75": jpeg,
        "blurred 0.8 px": lambda image: np.asarray(image.filter(ImageFilter.GaussianBlur(0.8))),
    }
    if painter is not None:
        eyes = painter.eyes
        wears["tokenizer"] = lambda image: eyes.decode_pictures(
            eyes.encode_pictures(np.array(image, np.uint8)[None])
        )[0]
    print(f"the judge on {number} true scenes of one object\n")
    print(f"{'':16}{'colour':>8}{'shape':>8}{'both':>8}{'ms':>8}")
    seen: list[Seen] = []
    for name, wear in wears.items():
        worn = [wear(picture(scene)) for scene in asked]
        began = time.perf_counter()
        seen = [recognise(pixels) for pixels in worn]
        spent = (time.perf_counter() - began) / number * 1e3
        print(f"{name:16}" + "".join(f"{share:8.3f}" for share in agreement(seen, asked)) + f"{spent:8.1f}")
    print(f"\n{'after ' + name:16}{'recall':>8}{'precision':>11}{'true':>7}")
    for what, known in (("colour", tuple(COLOURS)), ("shape", SHAPES)):
        for value in known:
            true = np.array([getattr(scene.things[0], what) == value for scene in asked])
            said = np.array([getattr(one, what) == value for one in seen])
            right = (true & said).sum()
            recall, precision = right / max(true.sum(), 1), right / max(said.sum(), 1)
            print(f"{value:16}{recall:8.3f}{precision:11.3f}{true.sum():7}")


def sweep(
    painter: Painter, settings: Sequence[Sampling], number: int, language: str, batch: int
) -> tuple[Sampling, float]:
    """Print the table of settings; the best of them, and its share."""
    asked, captions = scenes(number, language)
    print(f"\n{number} captions ({language}), a picture each\n")
    print(f"{'guidance':>8}{'temp':>6}{'top-k':>7}{'top-p':>7}", end="")
    print(f"{'colour':>9}{'shape':>8}{'both':>8}{'plus':>7}{'others’':>9}{'codes/s':>10}")
    best, most = settings[0], -1.0
    for sampling in settings:
        began = time.perf_counter()
        drawn = painter.draw(captions, range(number), sampling, batch=batch)
        rate = sum(one.codes.size for one in drawn) / (time.perf_counter() - began)
        seen = [recognise(one.pixels) for one in drawn]
        share, control = agreement(seen, asked), agreement(seen, others(asked))
        plus = 1.96 * sqrt(share.both * (1 - share.both) / number)
        print(f"{sampling.guidance:8g}{sampling.temperature:6g}{sampling.top_k:7}{sampling.top_p:7g}", end="")
        print(f"{share.colour:9.3f}{share.shape:8.3f}{share.both:8.3f}{plus:7.3f}", end="")
        print(f"{control.both:9.3f}{rate:10,.0f}", flush=True)
        if share.both > most:
            best, most = sampling, share.both
    return best, most


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", help="exported Emu3; without it the judge alone")
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1, 1.5, 2, 3, 4, 5])
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.7, 1])
    parser.add_argument("--top-k", type=int, nargs="+", default=[0, 64])
    parser.add_argument("--top-p", type=float, nargs="+", default=[1])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="make the best setting the model's own")
    given = parser.parse_args()
    painter = None if given.model is None else open_painter(given.model)
    judge(painter, max(given.captions, 200))
    if painter is None:
        return
    settings = [
        Sampling(guidance=guidance, temperature=temperature, top_k=top_k, top_p=top_p)
        for temperature, top_k, top_p, guidance in product(
            given.temperature, given.top_k, given.top_p, given.guidance
        )
    ]
    best, share = sweep(painter, settings, given.captions, given.language, given.batch)
    print(f"\nbest: {best}, both {share:.3f}")
    if given.write:
        write_defaults(given.model, replace(painter.defaults, sampling=best))
        print(f"written to {given.model}")


if __name__ == "__main__":
    main()
