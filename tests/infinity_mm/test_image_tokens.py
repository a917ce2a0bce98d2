"""Image tokens and tiles against transformers' own processor."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.image_tokens import Geometry, Visual
from infinity_mm.models.torchvision_ops import import_torchvision

SIGLIP = Geometry(384, 14, tuple((384 * i, 384 * j) for i in range(1, 7) for j in range(1, 7)), 9)
SMALL = Geometry(64, 8, tuple((64 * i, 64 * j) for i in range(1, 4) for j in range(1, 4)), 4)


def theirs(geometry: Geometry) -> Any:
    """The methods of transformers' processor that count, without a tokenizer."""
    import_torchvision()
    from transformers import LlavaOnevisionProcessor

    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.image_processor = SimpleNamespace(image_grid_pinpoints=[list(p) for p in geometry.pinpoints])
    processor.num_image_tokens = geometry.grid**2
    processor.vision_aspect_ratio = f"anyres_max_{geometry.limit}"
    return processor


def sizes(count: int) -> list[tuple[int, int]]:
    """Random sizes, a third of them multiples of 16, and the smallest and thinnest."""
    rng = random.Random(5)
    drawn = [
        (rng.randint(1, 3000), rng.randint(1, 3000))
        if n % 3
        else (16 * rng.randint(1, 200), 16 * rng.randint(1, 200))
        for n in range(count)
    ]
    return [(1, 1), (1, 3000), (3000, 1), (1920, 1920), (384, 384), *drawn]


@pytest.mark.parametrize("geometry", [SIGLIP, SMALL], ids=["siglip", "small"])
def test_tokens_are_those_of_the_processor(geometry: Geometry) -> None:
    processor = theirs(geometry)
    wrong = []
    for width, height in sizes(5000):
        want = processor._get_number_of_features(height, width, geometry.side, geometry.side)
        if geometry.tokens(Visual("single", width, height)) != want:
            wrong.append((width, height))
    assert not wrong


def test_the_grid_is_theirs_where_two_serve_as_well() -> None:
    import_torchvision()
    from transformers.image_processing_utils import select_best_resolution

    for pinpoints in (((64, 128), (128, 64)), ((128, 64), (64, 128)), SMALL.pinpoints):
        for width, height in [(50, 50), (1, 1), (1, 3000), (3000, 1), (100, 100), (128, 64)]:
            want = select_best_resolution((height, width), list(pinpoints))
            assert Geometry(64, 8, pinpoints).best(width, height) == want


def test_shrinking_rounds_as_doubles_do() -> None:
    # 5 by 5 tiles: 135 * 81 / 135 is 81, but transformers' square root is a hair above 5/3
    assert SIGLIP.cut(1920, 1920)[-2:] == (80, 80)


def test_several_pictures_and_clips() -> None:
    assert SIGLIP.tokens(Visual("several", 2000, 30)) == 27 * 27 + 1
    assert SIGLIP.tokens(Visual("clip", 2000, 30, 5)) == 5 * 14 * 14 + 1
    assert SIGLIP.tiles(Visual("several", 2000, 30)) == 1
    assert SIGLIP.tiles(Visual("clip", 2000, 30, 5)) == 5


def test_without_pinpoints_a_picture_is_one_tile() -> None:
    alone = Visual("single", 2000, 30)
    assert (Geometry(384, 14).tokens(alone), Geometry(384, 14).tiles(alone)) == (730, 1)
    assert Geometry(64, 8, ((64, 64),)).tiles(alone) == 2


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_picture_never_has_more_tokens_than_the_greatest_known(width: int, height: int) -> None:
    assert 729 <= SIGLIP.tokens(Visual("single", width, height)) <= 8765


def test_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        SIGLIP.tokens(Visual("single", 0, 5))
