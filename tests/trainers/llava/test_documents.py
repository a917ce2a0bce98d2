"""Documents: image tokens in exact number, supervised answers alone, and packs that say where each begins."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talks import chat

from infinity_mm.image_tokens import Geometry, Visual
from infinity_mm.schema import Part, Turn
from trainers.batch import Document
from trainers.llava.documents import Encoding, Medium, frames_of, join, lay_out

CHAT = chat()
GEOMETRY = Geometry(32, 8, ((32, 32), (32, 64), (64, 32)), 4)
ENCODING = Encoding(chat=CHAT, geometry=GEOMETRY, frames=4)
PICTURE, WIDE, CLIP = Medium("image", 40, 30), Medium("image", 90, 30), Medium("video", 64, 64, 10)


def talk(*numbers: int, answer: str = "yes") -> list[Turn]:
    """A question that shows media by number, and an answer."""
    shown = [Part("image", None, number) for number in numbers]
    return [Turn("user", (*shown, Part("text", "what?"))), Turn("assistant", (Part("text", answer),))]


@pytest.mark.parametrize(
    ("media", "visuals"),
    [
        ([], ()),
        ([PICTURE], (Visual("single", 40, 30),)),
        ([WIDE, PICTURE], (Visual("several", 90, 30), Visual("several", 40, 30))),
        ([CLIP], (Visual("clip", 64, 64, 4),)),
        ([CLIP, WIDE], (Visual("clip", 64, 64, 4), Visual("single", 90, 30))),
        ([Medium("video", 64, 64, 3)], (Visual("clip", 64, 64, 3),)),
    ],
)
def test_each_picture_has_its_tokens(media: list[Medium], visuals: tuple[Visual, ...]) -> None:
    laid = lay_out(talk(*range(len(media))), media, ENCODING)
    assert laid.visuals == visuals
    assert laid.media == tuple(range(len(media)))
    assert (laid.tokens == CHAT.image_id).sum() == sum(map(GEOMETRY.tokens, visuals))
    bare = CHAT.encode(talk(*range(len(media))))
    assert (
        laid.tokens[laid.tokens != CHAT.image_id].tolist()
        == bare.tokens[bare.tokens != CHAT.image_id].tolist()
    )
    assert laid.tokens[laid.supervised].tolist() == bare.tokens[bare.supervised].tolist()
    assert CHAT.decode(laid.tokens[laid.supervised].tolist()) == "yes"


def test_pictures_that_no_turn_shows_count_for_nothing() -> None:
    assert lay_out(talk(1), [WIDE, PICTURE], ENCODING).visuals == (Visual("single", 40, 30),)


def test_a_medium_of_unknown_size_is_refused_where_it_is_shown() -> None:
    with pytest.raises(ValueError, match="missing_media: gone"):
        lay_out(talk(1), [WIDE, "missing_media: gone"], ENCODING)
    assert lay_out(talk(0), [WIDE, "missing_media: gone"], ENCODING).media == (0,)
    with pytest.raises(ValueError, match="bad_conversation: turn 1 marks a medium"):
        lay_out([Turn("user", (Part("image"),))], [], ENCODING)


def test_the_key_is_of_all_that_lengths_depend_on() -> None:
    others = [
        Encoding(chat=CHAT, geometry=GEOMETRY, frames=5),
        Encoding(chat=CHAT, geometry=GEOMETRY._replace(limit=5), frames=4),
        Encoding(chat=CHAT, geometry=GEOMETRY._replace(pinpoints=()), frames=4),
    ]
    assert len({ENCODING.key, *(other.key for other in others)}) == 4
    assert Encoding(chat=chat(), geometry=GEOMETRY, frames=4).key == ENCODING.key


@given(st.integers(1, 500), st.integers(1, 40))
def test_frames_are_spread_over_the_clip(count: int, most: int) -> None:
    frames = frames_of(count, most)
    assert len(frames) == min(count, most)
    assert frames == sorted(set(frames))
    assert set(frames) <= set(range(count))
    gaps = np.diff([-frames[0] - 1, *frames, 2 * count - frames[-1] - 1])
    assert gaps.max() - gaps.min() <= 2
    if count <= most:
        assert frames == list(range(count))


def document(seed: int) -> Document:
    rng = np.random.default_rng(seed)
    length, count = int(rng.integers(1, 9)), int(rng.integers(0, 3))
    supervised = rng.random(length) < 0.5
    supervised[0] = False
    visuals = tuple(Visual("several", seed + 1, i + 1) for i in range(count))
    tiles = rng.integers(0, 256, (count, 3, 4, 4), np.uint8)
    return Document(b"", seed, rng.integers(0, 99, length).astype(np.int32), supervised, visuals, tiles)


@given(st.lists(st.integers(0, 20), max_size=6))
def test_a_pack_is_its_documents_one_after_another(seeds: list[int]) -> None:
    documents = [document(seed) for seed in seeds]
    pack = join(documents, 4)
    starts = pack.starts_D.tolist()
    assert starts[-1] == len(pack.tokens_T) == len(pack.positions_T)
    for one, (start, end) in zip(documents, pairwise(starts), strict=True):
        assert pack.tokens_T[start:end].tolist() == one.tokens.tolist()
        assert pack.positions_T[start:end].tolist() == list(range(len(one.tokens)))
        inside = (pack.target_at_S >= start) & (pack.target_at_S < end)
        assert pack.targets_S[inside].tolist() == one.tokens[one.supervised].tolist()
        assert (pack.target_at_S[inside] + 1 - start).tolist() == np.flatnonzero(one.supervised).tolist()
        assert set(pack.sources_S[inside].tolist()) <= {one.source}
    assert pack.visuals == tuple(visual for one in documents for visual in one.visuals)
    assert pack.tiles_N.shape[1:] == (3, 4, 4)
    assert pack.tiles_N.tolist() == [tile.tolist() for one in documents for tile in one.tiles]
    dtypes = [str(x.dtype).removeprefix("torch.") for x in pack if hasattr(x, "dtype")]
    assert dtypes == ["int64", "int64", "int32", "int64", "int64", "float32", "int64", "uint8"]
