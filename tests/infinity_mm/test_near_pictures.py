"""Near pictures: what comparing all finds, what a crowd leaves out, and equals told once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity_mm import near_pictures as near_pictures_module
from infinity_mm import near_thumbnails as module
from infinity_mm.media.phash import SYMMETRIES
from infinity_mm.media.thumbnail import SIZE, alike, coarse, coarsely_alike, symmetric
from infinity_mm.media.tone import toned_alike
from infinity_mm.near_pictures import Looks, NearPictures, near_pictures

Triple = tuple[int, int, int, int]  # row, row, bits, symmetry
RADIUS = 8


def looks(
    count: int, seed: int, *, low: float = 0.6, flips: bool = False, layouts: int = 3, tonal: float = 0.7
) -> Looks:
    """Pictures in clusters: hashes some bits apart, thumbnails of a few layouts, some nearly equal."""
    draw = np.random.default_rng(seed)
    heads = draw.integers(0, 1 << 64, layouts, np.uint64)
    kind = draw.integers(0, layouts, count)
    hashes = heads[kind]
    flipped = draw.integers(0, 8, count)
    for flip in range(7):
        bit = np.uint64(1) << draw.integers(0, 64, count, np.uint64)
        hashes ^= np.where(flipped > flip, bit, np.uint64(0))
    pages = np.full((2 * layouts, SIZE), 128, np.uint8)
    blocks = draw.integers(20, 240, (2 * layouts, 8, 8), np.uint8)
    pages[:, :4096] = blocks.repeat(8, axis=1).repeat(8, axis=2).reshape(len(pages), -1)
    pages[:, -2:] = (44, 1)  # 300 pixels
    thumbnails = pages[2 * kind + draw.integers(0, 2, count)]
    thumbnails[:, :4096] += draw.integers(0, 8, (count, 1), np.uint8)  # a little brighter: still alike
    darker = np.flatnonzero(draw.random(count) < 0.3)
    thumbnails[darker, :4096] = thumbnails[darker, :4096] * 0.7  # alike in another tone only
    is_low = draw.random(count) < low
    where = np.where(is_low | (draw.random(count) < 0.5), np.arange(count), -1)
    where[is_low & (draw.random(count) < 0.1)] = -1
    turned = None
    if flips:
        turned = np.repeat(hashes[:, None], len(SYMMETRIES), axis=1) ^ np.arange(1, 8, dtype=np.uint64)
    return Looks(hashes, is_low, where.astype(np.int64), thumbnails, turned, draw.random(count) < tonal)


def by_comparing(one: Looks, radius: int, against: Looks | None = None) -> set[Triple]:
    """All near pairs of rows that are their own `same`, the symmetry of fewest bits first."""
    other = one if against is None else against
    rows, others = (np.flatnonzero(same_by_comparing(o) == np.arange(len(o.phash))) for o in (one, other))
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for symmetry in range(1 if one.symmetries is None else 8):
        hashes = one.phash if symmetry == 0 else one.symmetries[:, symmetry - 1]  # type: ignore[index]
        for later in rows.tolist():
            for earlier in others.tolist():
                bits = (int(hashes[later]) ^ int(other.phash[earlier])).bit_count()
                if bits > radius or (against is None and earlier >= later):
                    continue
                if (one.low[later] or other.low[earlier]) and not same_cells(
                    one, later, other, earlier, symmetry
                ):
                    continue
                pair = (earlier, later) if against is None else (later, earlier)
                best[pair] = min(best.get(pair, (99, 99)), (bits, symmetry))
    return {(*pair, *found) for pair, found in best.items()}


def same_cells(one: Looks, i: int, other: Looks, j: int, symmetry: int) -> bool:
    at, to = one.thumbnail[i], other.thumbnail[j]
    if min(at, to) < 0:
        return False
    left = one.thumbnails[at : at + 1]
    left = symmetric(left, symmetry) if symmetry else left
    right = other.thumbnails[to : to + 1]
    if coarsely_alike(coarse(left), coarse(right))[0] and alike(left, right)[0]:
        return True
    return bool(one.tonal[i] and other.tonal[j] and toned_alike(left, right)[0])


def same_by_comparing(of: Looks) -> np.ndarray:
    same = []
    for i in range(len(of.phash)):
        for j in range(i + 1):
            equal = of.phash[i] == of.phash[j] and of.low[i] == of.low[j]
            if equal and of.low[i] and i != j:
                a, b = of.thumbnail[i], of.thumbnail[j]
                equal = min(a, b) >= 0 and np.array_equal(of.thumbnails[a], of.thumbnails[b])
            if equal:
                same.append(j)
                break
    return np.array(same, np.int64)


def quads(found: NearPictures) -> list[Triple]:
    return [
        (i, j, b, s)
        for (i, j), b, s in zip(
            found.pairs.tolist(), found.bits.tolist(), found.symmetry.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("flips", [False, True])
def test_it_finds_what_comparing_all_finds(seed: int, flips: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAF", 30)  # the tree splits, and pairs lie across its splits
    one = looks(70, seed, flips=flips, tonal=0.7 if seed == 0 else 0)  # comparing all takes long
    found = near_pictures(one, RADIUS)
    wanted = by_comparing(one, RADIUS)
    assert quads(found) == sorted(wanted)
    assert any(one.low[i] and one.low[j] and b for i, j, b, _ in wanted)
    assert any(not one.low[i] and not one.low[j] for i, j, _, _ in wanted)
    assert found.same.tolist() == same_by_comparing(one).tolist()
    plain = near_pictures(one._replace(tonal=np.zeros(70, bool)), RADIUS)
    assert (set(quads(plain)) < set(quads(found))) == (seed == 0)
    other = looks(50, seed)
    other = other._replace(phash=other.phash ^ np.uint64(1), thumbnails=one.thumbnails[:50])
    assert quads(near_pictures(one, RADIUS, other)) == sorted(by_comparing(one, RADIUS, other))


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(0, 30), st.integers(0, 64), st.sampled_from([0.0, 0.5, 1.0]))
def test_what_every_answer_has(seed: int, count: int, radius: int, low: float) -> None:
    one = looks(count, seed, low=low, layouts=2)
    found = near_pictures(one, radius)
    i, j = found.pairs.T
    assert (i < j).all() and (found.same[i] == i).all() and (found.same[j] == j).all()
    assert found.pairs.tolist() == sorted(map(list, {tuple(pair) for pair in found.pairs.tolist()}))
    assert found.bits.tolist() == [
        (a ^ b).bit_count() for a, b in zip(one.phash[i].tolist(), one.phash[j].tolist(), strict=True)
    ]
    assert (found.bits <= radius).all()
    own = np.flatnonzero(found.same == np.arange(count))
    suspected = sum(
        (int(one.phash[a]) ^ int(one.phash[b])).bit_count() <= radius and bool(one.low[a] or one.low[b])
        for a in own
        for b in own[own < a]
    )
    assert found.refused == suspected - np.count_nonzero(one.low[i] | one.low[j])


def test_equal_hashes_are_no_duplicates_where_the_hash_says_little() -> None:
    thumbnails = np.full((4, SIZE), 128, np.uint8)
    thumbnails[:, -2:] = (44, 1)
    thumbnails[1, :4096], thumbnails[2, 4096:4352] = 250, 220  # white, and another colour
    hashes, rows = np.full(4, 7, np.uint64), np.arange(4)
    yes, no = np.ones(4, bool), np.zeros(4, bool)
    found = near_pictures(Looks(hashes, yes, rows, thumbnails, None, no), 8)
    assert found.same.tolist() == [0, 1, 2, 0] and len(found.pairs) == 0 and found.refused == 3
    trusted = near_pictures(Looks(hashes, no, rows, thumbnails, None, no), 8)
    assert trusted.same.tolist() == [0, 0, 0, 0] and trusted.refused == 0
    one = near_pictures(
        Looks(hashes, np.array([1, 0, 0, 0], bool), np.array([0, -1, 3, -1]), thumbnails, None, yes), 8
    )
    assert one.same.tolist() == [0, 1, 1, 1] and one.pairs.tolist() == []


def blank_pages(count: int, noise: int, seed: int = 0) -> Looks:
    """Pages with one hash whose thumbnails are within the tolerance of one another, and no two equal."""
    draw = np.random.default_rng(seed)
    thumbnails = np.full((count, SIZE), 250, np.uint8)
    thumbnails[:, :4096] -= draw.integers(0, noise, (count, 4096), np.uint8)
    hashes, low = np.full(count, 9, np.uint64), np.ones(count, bool)
    return Looks(hashes, low, np.arange(count), thumbnails, None, np.zeros(count, bool))


def test_a_crowd_keeps_the_pairs_with_its_first_64() -> None:
    pages = blank_pages(900, 3)
    found = near_pictures(pages, 4)
    i, j = found.pairs.T
    assert np.bincount(j, minlength=900).tolist() == [min(row, 64) for row in range(900)]
    assert (i < 64).all()


def scenes(count: int, seed: int = 0) -> Looks:
    """Smooth pictures of low information, hashes far apart; the second half is the first, brighter."""
    draw = np.random.default_rng(seed)
    thumbnails = np.full((count, SIZE), 128, np.uint8)
    for i in range(count // 2):
        scene = Image.fromarray(draw.integers(20, 190, (6, 6), np.uint8))
        thumbnails[i, :4096] = np.asarray(scene.resize((64, 64), Image.Resampling.BICUBIC)).ravel()
    brighter = np.minimum(thumbnails[: count // 2, :4096] * 1.5, 255)
    thumbnails[count // 2 :, :4096] = brighter.round()
    thumbnails[:, -2:] = (44, 1)
    hashes = draw.integers(0, 1 << 64, count // 2, np.uint64)
    copies = hashes ^ np.uint64(5)
    yes = np.ones(count, bool)
    return Looks(np.concatenate([hashes, copies]), yes, np.arange(count), thumbnails, None, yes)


def test_a_copy_in_another_tone_is_near_where_the_hash_is_a_guide() -> None:
    one = scenes(40)
    copies = [[i, 20 + i] for i in range(20)]
    found = near_pictures(one, RADIUS)
    assert found.pairs.tolist() == copies and (found.bits == 2).all() and found.refused == 0
    assert near_pictures(one, 1).pairs.tolist() == []
    half = np.arange(40) < 20  # one of the two of low information is enough; both must be tonal
    assert near_pictures(one._replace(low=half), RADIUS).pairs.tolist() == copies
    for untold in (one._replace(tonal=half), one._replace(thumbnail=np.where(half, np.arange(40), -1))):
        assert (near_pictures(untold, RADIUS).pairs.tolist(), near_pictures(untold, RADIUS).refused) == (
            [],
            20,
        )
    others = one._replace(
        **{name: getattr(one, name)[20:] for name in ("phash", "low", "thumbnail", "tonal")}
    )
    assert near_pictures(one, RADIUS, others).pairs.tolist() == sorted(
        [[i, i % 20] for i in range(40)], key=lambda pair: pair[0]
    )


def test_a_crowd_is_not_searched_for_other_tones(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def counting(one: np.ndarray, other: np.ndarray) -> Any:
        nonlocal compared
        compared += len(one)
        return toned_alike(one, other)

    monkeypatch.setattr(near_pictures_module, "toned_alike", counting)
    one = scenes(140)
    crowd = one.phash.copy()
    crowd[:66] = crowd[0] ^ (np.uint64(1) << np.arange(66, dtype=np.uint64) % np.uint64(60))
    found = near_pictures(one._replace(phash=crowd), RADIUS)
    assert found.pairs.tolist() == [[i, 70 + i] for i in range(66, 70)] and compared == 4
    monkeypatch.setattr(near_pictures_module, "_SAMPLED", 35)  # every fourth hash
    assert near_pictures(one._replace(phash=crowd), RADIUS).pairs.tolist() == found.pairs.tolist()
    fewer = one._replace(phash=np.where(np.arange(140) < 30, crowd, one.phash))
    assert near_pictures(fewer, RADIUS).pairs.tolist() == [[i, 70 + i] for i in (0, *range(30, 70))]
    monkeypatch.setattr(near_pictures_module, "_SAMPLED", 1)  # too few to tell a crowd
    compared = 0
    near_pictures(one._replace(phash=np.full(140, 7, np.uint64)), RADIUS)
    assert compared == sum(min(row, 64) for row in range(140))


def test_a_large_crowd_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def counting(one: np.ndarray, other: np.ndarray) -> Any:
        nonlocal compared
        compared += len(one)
        return alike(one, other)

    monkeypatch.setattr(module, "alike", counting)
    monkeypatch.setattr(module, "_CROWD", 1 << 14)
    monkeypatch.setattr(module, "_LEAF", 1 << 10)
    pages = blank_pages(600, 3)
    words = np.random.default_rng(1).integers(0, 60, (600, 2))
    for page, (y, x) in zip(pages.thumbnails[:300, :4096].reshape(-1, 64, 64), words, strict=False):
        page[y : y + 2, x : x + 4] -= 90  # different pages, which the coarse values do not tell apart
    pages.thumbnails[550] = pages.thumbnails[20]
    pages.thumbnails[550, :4096] ^= 1
    found = near_pictures(pages, 4)
    assert compared < 600 * 130
    pairs = set(map(tuple, found.pairs.tolist()))
    assert (20, 550) in pairs
    assert pairs >= {(300, j) for j in range(301, 600) if j != 550}  # the first of those that are blank
    assert all(same_cells(pages, i, pages, j, 0) for i, j in found.pairs[::50].tolist())
    assert np.bincount(found.pairs[:, 1]).max() == 64


def test_identical_coarse_values_still_end() -> None:
    pages = blank_pages(400, 1)
    pages.thumbnails[:, 0] = np.arange(400) % 200  # differ in one cell alone
    pages.thumbnails[:, 1] = np.arange(400) // 200
    assert len(near_pictures(pages, 0).pairs) > 0


def test_what_does_not_fit_is_refused() -> None:
    one = looks(5, 0)
    with pytest.raises(ValueError, match="radius 65"):
        near_pictures(one, 65)
    with pytest.raises(ValueError, match=r"looks\.phash is int64"):
        near_pictures(one._replace(phash=np.arange(5)), 3)
    with pytest.raises(ValueError, match=r"against\.thumbnails is uint8 of shape \(5, 9\)"):
        near_pictures(one, 3, one._replace(thumbnails=one.thumbnails[:, :9]))
    with pytest.raises(ValueError, match="names rows that are not among"):
        near_pictures(one._replace(thumbnail=np.full(5, 5)), 3)
    with pytest.raises(ValueError, match="symmetries"):
        near_pictures(one._replace(symmetries=np.zeros((5, 3), np.uint64)), 3)
