"""The judge of drawn scenes is right on true ones, worn ones too, and is not led by what is no scene."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from infinity_mm.scenes.draw import picture
from infinity_mm.scenes.recognise import NOTHING, recognise
from infinity_mm.scenes.world import COLOURS, SHAPES, Scene, draw_background, draw_shapes, place

Wear = Callable[[Image.Image], Image.Image]


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60, subsampling=0)
    return Image.open(buffer).convert("RGB")


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.9))


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 7, (64, 64, 3))
    return Image.fromarray((np.asarray(blurred(image)) + noise).clip(0, 255).astype(np.uint8))


def true_scenes() -> list[Scene]:
    """One object of each colour, shape and size, twice."""
    rng = np.random.default_rng(5)
    specs = [(c, s, size) for c in COLOURS for s in SHAPES for size in ("small", "large")] * 2
    return [Scene("shapes", 64, draw_background(rng), place(rng, 64, [spec])) for spec in specs]


@pytest.mark.parametrize(
    "wear", [lambda image: image, jpeg, blurred, noisy], ids=["as drawn", "JPEG", "blurred", "noisy"]
)
def test_true_scenes_are_recognised(wear: Wear) -> None:
    scenes = true_scenes()
    seen = [recognise(np.asarray(wear(picture(scene)))) for scene in scenes]
    for known, attribute in ((SHAPES, "shape"), (COLOURS, "colour")):
        pairs = [
            (getattr(scene.things[0], attribute), getattr(one, attribute))
            for scene, one in zip(scenes, seen, strict=True)
        ]
        assert sum(true == said for true, said in pairs) >= 0.98 * len(pairs)
        for value in known:  # none is recognised at the cost of another
            assert sum(true == said == value for true, said in pairs) >= 0.95 * len(pairs) / len(known)


def test_other_sizes_are_recognised() -> None:
    scenes = [replace(s, side=128) for s in true_scenes()[::7]]
    for scene in scenes:
        big = picture(replace(scene, side=64)).resize((256, 256), Image.Resampling.BICUBIC)
        seen = recognise(np.asarray(big))
        assert (seen.colour, seen.shape) == (scene.things[0].colour, scene.things[0].shape)


def test_several_objects_are_no_one_object() -> None:
    rng = np.random.default_rng(2)
    seen = [recognise(np.asarray(picture(draw_shapes(rng, 64, n)))) for n in (2, 3, 4) for _ in range(20)]
    assert sum(one.shape is None for one in seen) >= 57


def drawn(pen: Callable[[ImageDraw.ImageDraw], None], size: int = 64) -> np.ndarray:
    image = Image.new("RGB", (size, size), (120, 120, 120))
    pen(ImageDraw.Draw(image))
    return np.asarray(image)


def test_what_is_no_shape_is_none() -> None:
    red = COLOURS["red"]
    for pen in (
        lambda on: on.ellipse((20, 28, 44, 36), fill=red),  # much wider than high
        lambda on: on.ellipse((18, 18, 34, 34), outline=red, width=3),  # a ring
        lambda on: on.pieslice((20, 20, 36, 36), 90, 270, fill=red),  # half a circle
        lambda on: on.rectangle((10, 10, 50, 50), fill=red),  # larger than any object
    ):
        assert recognise(drawn(pen)).shape is None
    assert recognise(drawn(lambda on: None)) == NOTHING
    assert recognise(drawn(lambda on: on.point((30, 30), fill=red))).shape is None
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert recognise(noise).shape is None


def test_a_colour_beside_the_palette_is_none() -> None:
    assert recognise(drawn(lambda on: on.rectangle((20, 20, 32, 32), fill=(0, 255, 120)))).colour is None
