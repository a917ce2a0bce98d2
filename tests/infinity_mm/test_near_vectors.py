import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity_mm import near_vectors as module
from infinity_mm.near_vectors import NearVectors, Vectors, near_vectors
from infinity_mm.recall import Recall


def whole(rows: np.ndarray) -> Vectors:
    return Vectors([(rows, np.arange(len(rows)))])


def clustered(count: int, dim: int, seed: int, clusters: int = 40, spread: float = 0.8) -> np.ndarray:
    """float16 [count, dim]: around some centres, a third of them copies a little aside."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((clusters, dim))
    rows = centres[draw.integers(0, clusters, count)] + spread * draw.standard_normal((count, dim))
    copies = draw.permutation(count)[: count // 3]
    rows[copies] = rows[draw.permutation(count)[: count // 3]]
    rows[copies] += 0.1 * draw.random((len(copies), 1)) * draw.standard_normal((len(copies), dim))
    return rows.astype(np.float16)


def globe(count: int, seed: int) -> np.ndarray:
    """float16 [count, 3]: all directions alike, so that cells touch everywhere."""
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float16)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float32, by hand, of the stored vectors, which are float32 once they have length 1 too."""
    units = []
    for rows in (one, other):
        scale = (1 / np.linalg.norm(rows.astype(np.float64), axis=1)).astype(np.float32)
        unit = (rows.astype(np.float32) * scale[:, None]).astype(np.float64)
        units.append(unit / np.linalg.norm(unit, axis=1)[:, None])
    return np.clip(units[0] @ units[1].T, -1, 1).astype(np.float32)


def by_hand(rows: np.ndarray, threshold: float) -> tuple[dict[tuple[int, int], float], list[int]]:
    first: dict[tuple[float, ...], int] = {}
    same = [first.setdefault(tuple(row), i) for i, row in enumerate(rows.tolist())]
    cosine = cosines(rows, rows).astype(np.float64)
    own = np.array(same) == np.arange(len(rows))
    near = np.argwhere(np.triu((cosine >= threshold) & own & own[:, None], 1)).tolist()
    return {(i, j): cosine[i, j] for i, j in near}, same


def told(near: NearVectors) -> dict[tuple[int, int], float]:
    assert near.pairs.dtype == np.int64 and near.cosine.dtype == np.float32 and near.same.dtype == np.int64
    assert near.pairs.ndim == 2 and len(near.pairs) == len(near.cosine)
    pairs = [(i, j) for i, j in near.pairs.tolist()]
    assert pairs == sorted(set(pairs))
    return dict(zip(pairs, near.cosine.tolist(), strict=True))


def first_of(pairs: dict[tuple[int, int], float], most: int) -> set[tuple[int, int]]:
    """Of each later row the pairs with its first earlier ones."""
    kept: dict[int, list[int]] = {}
    for i, j in sorted(pairs):
        kept.setdefault(j, []).append(i)
    return {(i, j) for j, earlier in kept.items() for i in earlier[:most]}


def representatives(count: int, pairs: set[tuple[int, int]]) -> list[bool]:
    """What is kept if a row goes where an earlier one that was kept is near."""
    earlier: dict[int, list[int]] = {}
    for i, j in pairs:
        earlier.setdefault(j, []).append(i)
    kept: list[bool] = []
    for row in range(count):
        kept.append(not any(kept[i] for i in earlier.get(row, [])))
    return kept


def in_cells(monkeypatch: pytest.MonkeyPatch, probes: int | None = None) -> None:
    monkeypatch.setattr(module, "_EXACT", 0)
    monkeypatch.setattr(module, "_ROWS_WITH_PAIRS", 10_000)
    if probes:
        monkeypatch.setattr(module, "_MOST_PROBES", probes)


@st.composite
def small(draw: st.DrawFn) -> np.ndarray:
    """Few directions, so that many vectors are equal, multiples of each other, or near."""
    values = st.lists(st.integers(-4, 4), min_size=3, max_size=3).filter(any)
    return np.array(draw(st.lists(values, min_size=1, max_size=30)), draw(st.sampled_from(["f2", "f4"])))


@given(small(), st.sampled_from([0.3, 0.8, 0.9, 0.98, 1.0]))
def test_exact_search_is_brute_force(rows: np.ndarray, threshold: float) -> None:
    pairs, same = by_hand(rows, threshold)
    near = near_vectors(whole(rows), threshold)
    assert told(near) == pairs
    assert near.same.tolist() == same
    assert (near.clusters, near.probes) == (0, 0)
    assert near.recall[:4] == (len(pairs), len(pairs), 1, 1)


@given(small(), st.data())
def test_a_threshold_that_is_a_cosine_is_reached(rows: np.ndarray, data: st.DataObject) -> None:
    among = cosines(rows, rows)
    threshold = float(data.draw(st.sampled_from(among[among > 0.1].tolist())))
    pairs, _ = by_hand(rows, threshold)
    assert told(near_vectors(whole(rows), threshold)) == pairs
    if threshold < 1:
        beyond = np.nextafter(threshold, 1)  # which a float32 does not tell from it
        assert told(near_vectors(whole(rows), beyond)).keys() == by_hand(rows, beyond)[0].keys()


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5]), st.sampled_from([2, 4]), st.booleans())
def test_a_pass_over_few_pairs_keeps_what_it_would_over_all(
    seed: int, most: int, dim: int, blocks: bool
) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((120, dim)).astype(np.float16)
    pairs, _ = by_hand(rows, 0.8)
    with pytest.MonkeyPatch.context() as patch:
        if blocks:
            patch.setattr(module, "_BLOCK", 16)
        found = told(near_vectors(whole(rows), 0.8, most=most))
    assert found.items() <= pairs.items()
    assert first_of(pairs, most) <= found.keys()
    assert len(found) <= (most + 1) * len(rows)
    assert representatives(120, set(found)) == representatives(120, set(pairs))


@pytest.mark.parametrize("most", [2, 64])
@pytest.mark.parametrize("threshold", [0.85, 0.95, 0.99])
def test_cells_find_what_brute_force_does(
    threshold: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cells(monkeypatch)
    rows = clustered(1500, 12, 1)
    pairs, same = by_hand(rows, threshold)
    near = near_vectors(whole(rows), threshold, most=most, recall=0.98)
    found = told(near)
    assert near.clusters > 10
    assert found.items() <= pairs.items()
    wanted = first_of(pairs, most)
    assert len(wanted) > 300
    assert len(found.keys() & wanted) >= 0.98 * len(wanted)
    assert near.same.tolist() == same
    assert near.recall.claimed


def test_the_passes_agree_in_cells_too(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    rows = clustered(1500, 6, 2)
    every = near_vectors(whole(rows), 0.9, most=1500, recall=0.9999)
    few = near_vectors(whole(rows), 0.9, most=1, recall=0.9999)
    assert every.probes == few.probes
    pairs = [set(told(near)) for near in (every, few)]
    assert len(pairs[1]) < len(pairs[0]) / 2
    assert representatives(1500, pairs[0]) == representatives(1500, pairs[1])


def test_pairs_across_borders_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    rows = globe(2500, 3)
    pairs, _ = by_hand(rows, 0.999)
    near = near_vectors(whole(rows), 0.999, recall=0.995)
    assert near.probes > 1 and near.recall.claimed
    assert len(told(near)) >= 0.995 * len(pairs)


def test_a_border_too_near_to_be_left_out_is_visited(monkeypatch: pytest.MonkeyPatch) -> None:
    # All cells may be visited: then whatever the bound on borders leaves out must hold no pair.
    in_cells(monkeypatch, probes=1000)
    rows = globe(1200, 4)
    for threshold in (0.9, 0.99, 0.999):
        with monkeypatch.context() as patch:
            patch.setattr(module, "_enough", lambda *_: (1000, module._LEVELS))
            near = near_vectors(whole(rows), threshold, most=1200)
        assert told(near) == by_hand(rows, threshold)[0]


def test_the_statement_shows_what_too_few_probes_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch, probes=1)
    rows = globe(2500, 3)
    pairs, _ = by_hand(rows, 0.999)
    near = near_vectors(whole(rows), 0.999)
    found = told(near)
    lost = 1 - len(found) / len(pairs)
    assert near.probes == 1 and lost > 0.03
    assert near.recall.of >= 300 and not near.recall.claimed
    assert "not shown to be 0.99" in str(near.recall)
    assert near.recall.low <= 1 - lost <= near.recall.high


def test_more_probes_where_more_recall_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    rows = globe(2500, 3)
    probes = [near_vectors(whole(rows), 0.999, recall=recall).probes for recall in (0.5, 0.99, 0.998)]
    assert probes == sorted(probes) and probes[0] == 1 < probes[1]


def test_few_pairs_claim_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    rows = clustered(600, 64, 5, clusters=600)
    near = near_vectors(whole(rows), 0.999)
    assert not near.recall.claimed
    assert str(near.recall).startswith("too few pairs")
    assert told(near) == by_hand(rows, 0.999)[0]  # every border within reach was crossed, which is no proof


def test_rows_meet_as_many_cells_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    seen = []
    enough = module._enough

    def watched(true: np.ndarray, high: module._Cells, low: module._Cells, recall: float) -> tuple[int, int]:
        probes, reach = enough(true, high, low, recall)
        starts, places = high.visits(0, len(high.starts) - 1, reach)
        assert len(places) == starts[-1] == (high.level < reach).sum()
        assert len(places) <= (probes - 1) * len(high.level) < (high.level <= reach).sum()
        seen.append(probes)
        return probes, reach

    monkeypatch.setattr(module, "_enough", watched)
    near = near_vectors(whole(clustered(1500, 12, 14)), 0.8, recall=0.97)
    assert seen == [near.probes] and near.probes > 1


def test_a_recall_is_the_lower_of_pairs_and_rows() -> None:
    # Row 900 has 60 pairs, of which 30 are found; rows 1000 to 1399 have one each, all but 4 found.
    later = np.repeat(np.concatenate([[900], np.arange(1000, 1400)]), [60, *[1] * 400])
    true = later.astype(np.uint64) << np.uint64(32) | np.arange(460, dtype=np.uint64)
    found = np.ones(460, bool)
    found[:30] = found[70:74] = False
    by_pair = module._stated(true, found, 0.99)
    assert by_pair[:2] == (426, 460)
    assert by_pair.low < Recall.counted(426, 460, 0.99).low  # 401 trials, not 460
    found[:30] = True
    found[74:90] = False
    assert module._stated(true, found, 0.99)[:2] == (381, 401)


def test_a_crowd_costs_its_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(6)
    count, crowd = 30_000, 25_000
    rows = draw.standard_normal((count, 16))
    many = draw.permutation(count)[:crowd]
    rows[many] = 1 + 0.05 * draw.standard_normal((crowd, 16))
    compared = 0

    def counted(
        x: np.ndarray, y: np.ndarray, wants: np.ndarray, asked: np.ndarray, threshold: float
    ) -> tuple[np.ndarray, np.ndarray]:
        nonlocal compared
        compared += len(x) * len(y)
        return near(x, y, wants, asked, threshold)

    near = module._near
    monkeypatch.setattr(module, "_near", counted)
    monkeypatch.setattr(module, "_LARGEST_SAMPLE", 1024)
    monkeypatch.setattr(module, "_BLOCK", 512)
    found = near_vectors(whole(rows.astype(np.float32)), 0.98, most=4)
    assert found.clusters > 0
    assert compared < 1.5e8  # all pairs of the crowd are 3.1e8, and 3e7 are the sample's
    assert len(found.pairs) <= 5 * count
    kept = np.array(representatives(count, {(i, j) for i, j in found.pairs.tolist()}))
    assert kept[many].sum() <= 3  # and not 1 only where search missed a pair


def test_the_same_whatever_the_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import faiss

    in_cells(monkeypatch)
    rows = clustered(3000, 128, 7)
    cells = []
    grouped = module._grouped

    def watched(*args: object) -> module._Cells:
        cells.append(grouped(*args))  # type: ignore[arg-type]
        return cells[-1]

    monkeypatch.setattr(module, "_grouped", watched)
    threads = faiss.omp_get_max_threads()
    found = []
    try:
        for number in (1, 2, 3):
            faiss.omp_set_num_threads(number)
            found.append(near_vectors(whole(rows), 0.95, scratch=str(tmp_path)))
            assert faiss.omp_get_max_threads() == number
    finally:
        faiss.omp_set_num_threads(threads)
    for near, groups in zip(found[1:], cells[1:], strict=True):
        np.testing.assert_array_equal(groups.beside, cells[0].beside)
        np.testing.assert_array_equal(groups.level, cells[0].level)
        np.testing.assert_array_equal(near.pairs, found[0].pairs)
        np.testing.assert_array_equal(near.cosine, found[0].cosine)
        assert near[3:] == found[0][3:]
    assert list(tmp_path.iterdir()) == []


def test_what_is_found_is_cut_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HELD", 2)
    found = module._Found(10, most=2)
    found.add(np.array([9, 9, 8]), np.array([7, 5, 7]))
    assert found.limit[[8, 9]].tolist() == [1 << 32, 7]
    found.add(np.array([9, 8, 9]), np.array([6, 7, 5]))
    assert [each.tolist() for each in module._unpacked(found.pairs())] == [[8, 9, 9], [7, 5, 6]]
    assert found.limit[9] == 6
    cells = module._one_cell(module._Set(whole(globe(10, 1)), np.arange(10), np.ones(10, np.float32), 0))
    asked: list[int] = []

    def none_near(x: np.ndarray, y: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
        asked.append(len(y))
        return np.empty(0, np.int64), np.empty(0, np.int64)

    monkeypatch.setattr(module, "_near", none_near)
    for row in (5, 6):  # nothing from row 6 on can replace what row 9 has
        module._meet(module._Rows(cells, np.array([9])), module._Rows(cells, np.arange(row, 9)), 0.9, found)
    assert asked == [4]


@pytest.mark.parametrize("most", [1, 3, 64])
def test_small_parts_are_the_same(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    rows = clustered(1200, 6, 8)
    near = near_vectors(whole(rows), 0.95, most=most)
    monkeypatch.setattr(module, "_HELD", 50)
    monkeypatch.setattr(module, "_VISITS", 500)
    monkeypatch.setattr(module, "_READ", 100)
    monkeypatch.setattr(module, "_BLOCK", 64)
    assert told(near_vectors(whole(rows), 0.95, most=most)) == told(near)


def test_parts_are_one_and_may_be_mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = clustered(900, 8, 9)
    parts = []
    for number, part in enumerate(np.split(rows, [200, 200, 650])):
        stored = np.concatenate([np.full((3, 8), np.nan, np.float16), part[::-1]])
        np.save(tmp_path / f"{number}.npy", stored)
        mapped = np.load(tmp_path / f"{number}.npy", mmap_mode="r")
        parts.append((mapped, np.arange(len(stored) - 1, 2, -1)))
    vectors = Vectors(parts)
    assert (len(vectors), vectors.dim) == (900, 8)
    some = np.array([899, 0, 5, 650, 5, 199, 200])
    assert vectors.take(some).dtype == np.float32
    np.testing.assert_array_equal(vectors.take(some), whole(rows).take(some))
    np.testing.assert_allclose(np.linalg.norm(vectors.take(some), axis=1), 1, atol=1e-6)
    assert told(near_vectors(vectors, 0.95)) == told(near_vectors(whole(rows), 0.95)) != {}
    in_cells(monkeypatch)
    assert told(near_vectors(vectors, 0.95)) == told(near_vectors(whole(rows), 0.95)) != {}


def test_cells_keep_float32_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    rows = clustered(800, 8, 10)
    wide = rows.astype(np.float32) * np.float32(1.0001)  # which float16 does not hold
    mixed = Vectors([(rows[:300], np.arange(300)), (wide[300:], np.arange(500))])
    pairs, _ = by_hand(np.concatenate([rows[:300].astype(np.float32), wide[300:]]), 0.95)
    found = told(near_vectors(mixed, 0.95, most=800))
    assert found.items() <= pairs.items() and len(found) >= 0.98 * len(pairs)


def test_equal_vectors_are_told_once() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0.1], [-0.0, 1], [0, 1], [2, 0.2]], np.float16)
    near = near_vectors(whole(rows), 0.9)
    assert near.same.tolist() == [0, 1, 2, 1, 1, 5]
    assert set(told(near)) == {(0, 2), (0, 5), (2, 5)}


@settings(max_examples=30)
@given(small(), small(), st.sampled_from([1, 3, 64]))
def test_against_another_set(one: np.ndarray, other: np.ndarray, most: int) -> None:
    cosine = cosines(one, other).astype(np.float64)
    wanted: dict[tuple[int, int], float] = {}
    for i, row in enumerate(cosine):
        wanted |= {(i, int(j)): row[j] for j in np.flatnonzero(row >= 0.9)[:most]}
    near = near_vectors(whole(one), 0.9, against=whole(other), most=most)
    assert told(near) == wanted
    assert near.same.tolist() == list(range(len(one)))


def test_against_another_set_in_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cells(monkeypatch)
    rows = clustered(3000, 10, 11)
    one, other = rows[:2000], rows[2000:]
    one[:50] = other[:50]
    cosine = cosines(one, other)
    wanted = {(i, j) for i, j in np.argwhere(cosine >= 0.95).tolist()}
    near = near_vectors(whole(one), 0.95, against=whole(other), most=1000)
    found = told(near)
    assert near.clusters > 0 and near.recall.claimed
    assert found.keys() <= wanted and len(found) >= 0.98 * len(wanted) > 300
    assert all(found[i, i] == 1 for i in range(50))
    swapped = told(near_vectors(whole(other), 0.95, against=whole(one), most=1000))
    assert len({(j, i) for i, j in swapped} ^ found.keys()) <= 0.03 * len(wanted)


def test_nothing() -> None:
    nothing = Vectors([])
    empty = whole(np.empty((0, 3), np.float16))
    some = whole(globe(5, 1))
    for near in (
        near_vectors(nothing, 0.9),
        near_vectors(empty, 0.9),
        near_vectors(some, 0.9, against=nothing),
        near_vectors(nothing, 0.9, against=some),
    ):
        assert near.pairs.shape == (0, 2) and len(near.cosine) == 0


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Steps:
        def __init__(self) -> None:
            self.done_of: list[list[int | None]] = []

        def start(self, label: str, total: int | None, unit: str) -> None:
            self.done_of.append([total, 0])

        def advance(self, n: int = 1) -> None:
            self.done_of[-1][1] += n  # type: ignore[operator]

        def done(self) -> None: ...

    in_cells(monkeypatch)
    steps = Steps()
    near_vectors(whole(clustered(500, 8, 12)), 0.95, report=steps)
    assert len(steps.done_of) == 4
    assert all(count == total or total is None for total, count in steps.done_of)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"threshold": 0.0}, "threshold 0.0: a cosine above 0"),
        ({"threshold": 1.1}, "threshold 1.1"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"recall": 1.0}, "recall 1.0: a share"),
        ({"most": 0}, "most 0: a row needs"),
        ({"against": whole(np.ones((1, 4), np.float16))}, "vectors of 3 numbers against vectors of 4"),
    ],
)
def test_settings_out_of_range(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        near_vectors(whole(globe(5, 1)), **{"threshold": 0.9, **settings_})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, np.nan, np.inf, -np.inf])
def test_a_row_without_a_direction(value: float) -> None:
    rows = globe(5, 1)
    rows[3] = value
    with pytest.raises(ValueError, match=r"row 3 is a vector of length .*embed it again or leave it out"):
        near_vectors(whole(rows), 0.9)
    with pytest.raises(ValueError, match="row 3 "):
        near_vectors(whole(globe(4, 2)), 0.9, against=whole(rows))
    with pytest.raises(ValueError, match="row 3 "):
        whole(rows).take(np.array([1, 3]))


def test_parts_that_do_not_fit() -> None:
    rows = globe(5, 1)
    with pytest.raises(ValueError, match="part 0 is float64 of shape"):
        whole(rows.astype(np.float64))
    with pytest.raises(ValueError, match=r"part 0 is float16 of shape \(15,\)"):
        whole(rows.ravel())
    with pytest.raises(ValueError, match="part 1 has vectors of 2 numbers, part 0 of 3"):
        Vectors([(rows, np.arange(5)), (rows[:, :2], np.arange(5))])
    with pytest.raises(ValueError, match="part 0 has 5 rows, and rows 2 to 5"):
        Vectors([(rows, np.arange(2, 6))])


def test_temporary_files_are_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_cells(monkeypatch)
    seen: list[str] = []
    grouped = module._grouped

    def watched(*args: object) -> object:
        cells = grouped(*args)  # type: ignore[arg-type]
        seen.extend(path.name for path in tmp_path.rglob("*.npy"))
        return cells

    monkeypatch.setattr(module, "_grouped", watched)
    near_vectors(whole(clustered(500, 8, 13)), 0.95, scratch=str(tmp_path))
    assert sorted(seen) == ["0-beside.npy", "0-level.npy", "0-rows.npy"]
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() != str(tmp_path)


def test_rows_in_another_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    parts = [(rng.standard_normal((n, 8)).astype(np.float16), np.arange(0, n, 2)) for n in (30, 20)]
    order = rng.permutation(25)
    plain, turned = Vectors(parts), Vectors(parts, order)
    assert np.array_equal(turned.take(np.arange(25)), plain.take(order))
    assert np.array_equal(turned.stored(np.array([7, 3])), plain.stored(order[[7, 3]]))
