"""Grouping by key gives what an in-memory sort gives, on disk as in memory."""

import numpy as np
import pytest

from infinity_mm.spill import KEY, Spill, first_of_run, halves, sort_by_key

ROW = np.dtype([KEY, ("number", "i8")])


@pytest.mark.parametrize("buffer_bytes", [1, 500, 1 << 20])
def test_buckets_are_a_stable_sort_by_key(buffer_bytes: int) -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (400, 16), np.uint8)
    keys[200:] = keys[:200]
    with Spill(ROW, buffer_bytes) as spill:
        for start in range(0, 400, 37):
            part = keys[start : start + 37]
            spill.add(key=part, number=np.arange(start, start + len(part)))
        rows = np.concatenate(list(spill.buckets()))
    expected = sorted(range(400), key=lambda i: (keys[i].tobytes(), i))
    assert rows["number"].tolist() == expected


def test_no_key_is_in_two_buckets() -> None:
    keys = np.random.default_rng(1).integers(0, 4, (1000, 16), np.uint8)
    with Spill(ROW, 1) as spill:
        spill.add(key=keys, number=np.arange(1000))
        seen: set[bytes] = set()
        for bucket in spill.buckets():
            here = {k.tobytes() for k in bucket["key"]}
            assert not here & seen
            seen |= here
    assert len(seen) == len({k.tobytes() for k in keys})


def test_first_of_run_points_to_the_first_equal_key() -> None:
    rows = np.zeros(5, ROW)
    rows["key"][:, 15] = [1, 1, 2, 3, 3]
    assert first_of_run(rows).tolist() == [0, 0, 2, 3, 3]
    assert first_of_run(rows[:0]).tolist() == []


def test_halves_keep_the_order_of_bytes() -> None:
    keys = np.random.default_rng(2).integers(0, 256, (300, 16), np.uint8)
    rows = np.zeros(300, ROW)
    rows["key"] = keys
    ordered = [k.tobytes() for k in sort_by_key(rows)["key"]]
    assert ordered == sorted(k.tobytes() for k in keys)
    high, low = halves(keys[:1])
    assert (int(high[0]) << 64 | int(low[0])) == int.from_bytes(keys[0].tobytes(), "big")
