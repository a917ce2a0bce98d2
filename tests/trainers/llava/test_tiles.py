"""Tiles against transformers' own image processor."""

from typing import Any

import numpy as np
import pytest

from infinity_mm.image_tokens import Geometry, Visual
from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.llava.tiles import fill_colour, tiles

GEOMETRY = Geometry(32, 8, tuple((32 * i, 32 * j) for i in range(1, 4) for j in range(1, 4)), 4)
MEAN = (0.48145466, 0.4578275, 0.40821073)
SIZES = [(32, 32), (64, 32), (1, 90), (90, 1), (33, 31), (200, 77), (77, 200), (96, 96), (500, 350), (65, 97)]


def noise(width: int, height: int) -> np.ndarray:
    """Low frequencies and high ones, so that a filter's edges show."""
    rng = np.random.default_rng([width, height])
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def theirs(pictures: list[Any]) -> list[np.ndarray]:
    """The tiles of their processor, for pictures one in a sample or lists of several, unscaled."""
    import_torchvision()
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 32, "width": 32},
        image_grid_pinpoints=[list(p) for p in GEOMETRY.pinpoints],
        image_mean=MEAN,
        do_rescale=False,
        do_normalize=False,
        do_pad=False,
    )
    return list(processor(pictures, input_data_format="channels_last")["pixel_values"])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_picture_alone_is_tiled_to_the_pixel_as_theirs(size: tuple[int, int]) -> None:
    visual = Visual("single", *size)
    made = tiles([noise(*size)], visual, GEOMETRY)
    assert made.dtype == np.uint8 and made.shape == (GEOMETRY.tiles(visual), 3, 32, 32)
    np.testing.assert_array_equal(made, theirs([noise(*size)])[0])


def test_one_of_several_pictures_is_padded_to_the_pixel_as_theirs() -> None:
    made = [tiles([noise(*s)], Visual("several", *s), GEOMETRY, fill_colour(MEAN)) for s in SIZES]
    for mine, their in zip(made, theirs([[noise(*s) for s in SIZES]]), strict=True):
        np.testing.assert_array_equal(mine, their)


def test_frames_are_squashed_and_one_tile_is_the_base() -> None:
    frames = [noise(50, 20), noise(50, 20)[::-1]]
    made = tiles(frames, Visual("clip", 50, 20, 2), GEOMETRY)
    base = tiles(frames[:1], Visual("single", 50, 20), Geometry(32, 8))
    assert made.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal(made[:1], base)
    np.testing.assert_array_equal(base[0], tiles(frames[:1], Visual("single", 50, 20), GEOMETRY)[0])


def test_pictures_that_are_not_as_said_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 1 decoded pictures of shape"):
        tiles([noise(5, 6)], Visual("single", 6, 5), GEOMETRY)
    with pytest.raises(ValueError, match="does not fit 1 decoded pictures"):
        tiles([noise(6, 5)], Visual("clip", 6, 5, 2), GEOMETRY)
