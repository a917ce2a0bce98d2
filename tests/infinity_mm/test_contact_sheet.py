"""A sheet shows every picture, enlarged evenly, with its caption in the place below."""

import numpy as np
import pytest

from infinity_mm.contact_sheet import GAP, PAPER, contact_sheet

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]


@pytest.mark.parametrize("columns", [None, 1, 5])
def test_every_picture_is_there_in_order(columns: int | None) -> None:
    pictures = [np.full((32, 64, 3), colour, np.uint8) for colour in COLOURS]
    sheet = np.asarray(contact_sheet(pictures, ["a caption"] * 5, columns))
    places = []
    for colour in COLOURS:
        found = np.argwhere((sheet == colour).all(axis=-1))
        assert len(found) == 64 * 128  # twice as large each way
        places.append(tuple(found[0]))
    assert places == sorted(places)
    assert len({x for _, x in places}) == (columns or 3)
    top, left = places[0]
    below = sheet[top + 64 : top + 64 + GAP + 15, left : left + 128]
    assert (below != PAPER).any()


def test_long_captions_stay_in_their_column() -> None:
    pictures = [np.zeros((64, 64, 3), np.uint8)] * 2
    long = "a very long caption " * 20 + "w" * 90
    sheet = np.asarray(contact_sheet(pictures, [long, ""], 2))
    right = sheet[:, GAP + 128 + GAP :]
    assert (right[GAP + 128 + 1 :] == PAPER).all()  # nothing of the first caption under the second
