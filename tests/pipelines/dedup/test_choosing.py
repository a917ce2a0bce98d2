"""The contract of dedup, on generated classes and pairs: chains, several methods, any order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dedup.choosing import choose
from pipelines.dedup.classes import Classes, joint, of_lists

Pairs = dict[tuple[int, int], float]


@st.composite
def near_things(draw: st.DrawFn, most: int = 8) -> Pairs:
    pairs = draw(st.sets(st.tuples(st.integers(0, most - 1), st.integers(0, most - 1)), max_size=12))
    return {(min(p), max(p)): draw(st.sampled_from([1.0, 2.0, 5.0])) for p in pairs if p[0] != p[1]}


def arrays(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array(sorted(pairs), np.int64).reshape(-1, 2),
        np.array([pairs[p] for p in sorted(pairs)], np.float32),
    )


def apart(pairs: Pairs, a: int, b: int) -> float:
    return 0.0 if a == b else pairs.get((min(a, b), max(a, b)), np.inf)


@st.composite
def methods(draw: st.DrawFn) -> tuple[list[Classes], list[tuple[list[int], Pairs]]]:
    count = draw(st.integers(1, 20))
    plain = [
        (draw(st.lists(st.integers(-1, 7), min_size=count, max_size=count)), draw(near_things()))
        for _ in range(draw(st.integers(1, 3)))
    ]
    made = []
    for of, pairs in plain:
        units = sorted(set(of) - {-1})
        number = {u: k for k, u in enumerate(units)}
        used = {(number[a], number[b]): d for (a, b), d in pairs.items() if a in number and b in number}
        made.append(Classes(np.array([number.get(u, -1) for u in of], np.int64), *arrays(used)))
    return made, plain


def distance(plain: tuple[list[int], Pairs], i: int, j: int) -> float:
    of, pairs = plain
    return np.inf if of[i] < 0 or of[j] < 0 else apart(pairs, of[i], of[j])


@given(methods(), st.randoms())
def test_every_drop_has_a_kept_witness_within_the_threshold_and_no_two_kept_are_near(made, random):
    found, plain = made
    count = len(plain[0][0])
    order = list(range(count))
    random.shuffle(order)
    choice = choose(found, np.array(order))
    rank = {i: k for k, i in enumerate(order)}
    kept = [i for i in range(count) if choice.witness[i] < 0]
    for i in range(count):
        if i in kept:
            assert choice.method[i] == -1
            continue
        witness, method = int(choice.witness[i]), int(choice.method[i])
        assert witness in kept and rank[witness] < rank[i]
        d = distance(plain[method], i, witness)
        assert np.isfinite(d) and choice.distance[i] == np.float32(d)
        # the nearest kept one of the first method that has one, and the others that have one
        sees = [min((distance(p, i, k) for k in kept if rank[k] < rank[i]), default=np.inf) for p in plain]
        assert method == min(m for m, s in enumerate(sees) if np.isfinite(s))
        assert d == sees[method]
        assert rank[witness] == min(rank[k] for k in kept if distance(plain[method], i, k) == d)
        assert [m for m in range(len(plain)) if choice.others[i] >> m & 1] == [
            m for m, s in enumerate(sees) if np.isfinite(s) and m != method
        ]
    for i in kept:
        for j in kept:
            assert i == j or not any(np.isfinite(distance(p, i, j)) for p in plain)


@given(methods(), st.data())
def test_what_is_settled_stays_and_the_others_meet_it_alone(made, data):
    found, plain = made
    count = len(plain[0][0])
    settled = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    choice = choose(found, np.arange(count), settled)
    for i in range(count):
        near = [j for j in range(count) if settled[j] and any(np.isfinite(distance(p, i, j)) for p in plain)]
        assert (choice.witness[i] >= 0) == (not settled[i] and bool(near))
        if choice.witness[i] >= 0:
            assert choice.witness[i] in near


def test_a_chain_drops_only_what_a_kept_sample_is_near() -> None:
    chain = Classes(np.arange(5), np.array([[0, 1], [1, 2], [2, 3], [3, 4]]), np.ones(4, np.float32))
    choice = choose([chain], np.arange(5))
    assert choice.witness.tolist() == [-1, 0, -1, 2, -1]


@given(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=12), near_things())
def test_lists_are_near_if_they_are_at_every_place(lists, pairs):
    offsets = np.cumsum([0, *map(len, lists)])
    units = np.array([u for one in lists for u in one], np.int64)
    found = of_lists(offsets, units, *arrays(pairs))
    near = {tuple(p): d for p, d in zip(found.pairs.tolist(), found.distance.tolist(), strict=True)}
    assert len(near) == len(found.pairs) and all(a < b for a, b in near)
    for i, one in enumerate(lists):
        for j, other in enumerate(lists):
            if not one or not other:
                assert (found.of[i] < 0) == (not one)
                continue
            assert (found.of[i] == found.of[j]) == (one == other)
            if len(one) == len(other):
                d = max(apart(pairs, a, b) for a, b in zip(one, other, strict=True))
            else:
                d = np.inf
            assert apart(near, int(found.of[i]), int(found.of[j])) == d


@given(
    st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), min_size=1, max_size=16),
    near_things(6),
    near_things(6),
    st.booleans(),
)
def test_joint_classes_are_near_if_both_are(samples, first, second, near):
    def classes(of: list[int], pairs: Pairs) -> Classes:
        return Classes(np.array(of, np.int64), *arrays(pairs))

    made = joint(classes([a for a, _ in samples], first), classes([b for _, b in samples], second), near=near)
    found = {tuple(p): d for p, d in zip(made.pairs.tolist(), made.distance.tolist(), strict=True)}
    assert len(found) == len(made.pairs) and all(a < b for a, b in found)
    for i, (a, b) in enumerate(samples):
        for j, (c, d) in enumerate(samples):
            if a < 0 or c < 0:
                assert (made.of[i] < 0) == (a < 0)
                continue
            assert (made.of[i] == made.of[j]) == ((a, b) == (c, d))
            want = apart(first, a, c)
            if b != d and not (near and np.isfinite(apart(second, b, d))):
                want = np.inf
            assert apart(found, int(made.of[i]), int(made.of[j])) == want
