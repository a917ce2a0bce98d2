"""The size of a picture before it becomes codes."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infinity_mm.visual_size import SizeRule, Unfit

RULE = SizeRule(64 * 64, 16 * 16, 512 * 512, 8)


@pytest.mark.parametrize(
    ("given", "made"),
    [((64, 64), (64, 64)), ((128, 128), (64, 64)), ((100, 50), (88, 48)), ((50, 100), (48, 88)),
     ((20, 20), (64, 64)), ((65, 63), (64, 64))],
)  # fmt: skip
def test_the_area_is_met_and_the_shape_kept(given: tuple[int, int], made: tuple[int, int]) -> None:
    assert RULE.size(*given) == made
    pixels = np.zeros((given[1], given[0], 3), np.uint8)
    assert RULE.apply(pixels).shape == (made[1], made[0], 3)


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([None, 64**2, 512**2]))
def test_sides_are_multiples_and_nearest(width: int, height: int, area: int | None) -> None:
    rule = SizeRule(area, 1, 1 << 30, 8)
    try:
        made = rule.size(width, height)
    except Unfit as error:
        assert error.reason == "too_narrow"
        return
    assume(min(made) > 8)
    scale = 1 if area is None else (area / (width * height)) ** 0.5
    for new, old in zip(made, (width, height), strict=True):
        assert new % 8 == 0
        assert abs(new - old * scale) <= 4 + 1e-6


@pytest.mark.parametrize(
    ("size", "reason", "said"),
    [((15, 17), "too_small", "15 x 17 is 255 pixels, the smallest allowed is 256"),
     ((513, 512), "too_large", "513 x 512 is 262,656 pixels, the largest allowed is 262,144"),
     ((4000, 4), "too_narrow", "4000 x 4 has a side of less than half a code when resized")],
)  # fmt: skip
def test_what_does_not_fit_has_a_name(size: tuple[int, int], reason: str, said: str) -> None:
    with pytest.raises(Unfit) as raised:
        RULE.size(*size)
    assert (raised.value.reason, raised.value.detail) == (reason, said)
    assert str(raised.value) == f"{reason}: {said}"


def test_a_picture_that_fits_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    assert SizeRule(None, 1, 1 << 20, 8).apply(pixels) is pixels
