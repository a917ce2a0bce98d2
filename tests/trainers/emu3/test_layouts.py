"""Emu3's sequences, id for id and weight for weight against what is written down here, and back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.models.tokenizer import tokenizer
from trainers.emu3.layouts import (
    UNDERSTANDING,
    Laid,
    Layouts,
    Said,
    Visual,
    Weights,
    meta_grid,
    meta_text,
    shaped,
)
from trainers.emu3.vocabulary import EMU3, scaled, visual_name, vocabulary_from

SMALL = scaled(tokenizer(), 512)
LAYOUTS = Layouts.of(tokenizer(), SMALL)
PAD, IMAGE, EOL, EOF, BOS, EOS, IMG, BOI, EOI, V = range(4096, 4106)
RED = Visual(np.array([[[0, 511, 7], [1, 2, 3]]]))  # 2 rows of 3
CLIP = Visual(np.arange(4).reshape(2, 1, 2), 24.0)


def ids(text: str) -> list[int]:
    return list(tokenizer().encode(text, add_special_tokens=False).ids)


def check(laid: Laid, *parts: tuple[list[int], list[float]]) -> None:
    """Ids and weights are those of the parts, one after another."""
    assert laid.ids.dtype == np.int32 and laid.weights.dtype == np.float32
    assert laid.ids.tolist() == [number for part, _ in parts for number in part]
    assert laid.weights.tolist() == [weight for _, weights in parts for weight in weights]


def picture(code: float, mark: float) -> tuple[list[int], list[float]]:
    """RED by hand: BOI 2 * 3 IMG, its rows, EOF and EOI."""
    (two, times, three) = ids("2*3")
    told = [BOI, two, times, three, IMG, V + 0, V + 511, V + 7, EOL, V + 1, V + 2, V + 3, EOL, EOF, EOI]
    return told, [mark] * 5 + [code] * 3 + [mark] + [code] * 3 + [mark] * 3


def test_the_published_ids_are_emu3s() -> None:
    assert (EMU3.text, EMU3.pad, EMU3.bos, EMU3.eos) == (151_643, 151_643, 151_849, 151_850)
    assert (EMU3.eol, EMU3.eof, EMU3.image) == (151_846, 151_847, 151_646)
    assert (EMU3.img, EMU3.boi, EMU3.eoi) == (151_851, 151_852, 151_853)
    assert EMU3.visual + EMU3.codes == EMU3.size == 184_622
    assert visual_name(7) == "<|visual token 000007|>"


def test_a_small_vocabulary_has_the_marks_in_the_same_order() -> None:
    assert (SMALL.text, SMALL.pad, SMALL.image, SMALL.eol, SMALL.eof) == (4096, PAD, IMAGE, EOL, EOF)
    assert (SMALL.bos, SMALL.eos, SMALL.img, SMALL.boi, SMALL.eoi) == (BOS, EOS, IMG, BOI, EOI)
    assert (SMALL.visual, SMALL.size) == (V, V + 512)
    marks = ("pad", "image", "eol", "eof", "bos", "eos", "img", "boi", "eoi", "visual")
    order = sorted(marks, key=lambda mark: getattr(EMU3, mark))
    assert order == sorted(marks, key=lambda mark: getattr(SMALL, mark))


def test_a_vocabulary_is_told_by_its_names() -> None:
    names = {"<|endoftext|>": PAD, "<image>": IMAGE, "<|extra_200|>": EOL, "<|extra_201|>": EOF}
    names |= {"<|extra_203|>": BOS, "<|extra_204|>": EOS, "<|image token|>": IMG, "<|image start|>": BOI}
    names |= {"<|image end|>": EOI, "<|visual token 000000|>": V}
    assert vocabulary_from(names, 512, V + 512) == SMALL
    with pytest.raises(ValueError, match=r"has no <\|extra_200\|>"):
        vocabulary_from({name: n for name, n in names.items() if n != EOL}, 512, V + 512)
    with pytest.raises(ValueError, match="do not fit"):
        vocabulary_from(names, 513, V + 512)


def test_image_generation() -> None:
    caption = ids("a red box")
    check(
        LAYOUTS.image("a red box", RED),
        ([BOS], [0.0]),
        (caption, [1.0] * len(caption)),
        picture(0.5, 1.0),
        ([EOS], [1.0]),
    )
    check(LAYOUTS.image("", RED), ([BOS], [0.0]), picture(0.5, 1.0), ([EOS], [1.0]))


def test_only_vision_can_be_learned() -> None:
    """Quality tuning: the loss on codes alone."""
    caption = ids("a red box")
    laid = LAYOUTS.image("a red box", RED, Weights(text=0, vision=1, marks=0))
    check(laid, ([BOS], [0.0]), (caption, [0.0] * len(caption)), picture(1.0, 0.0), ([EOS], [0.0]))


def test_captioning() -> None:
    caption = ids("a red box")
    check(
        LAYOUTS.caption(RED, "a red box"),
        ([BOS], [0.0]),
        picture(0.5, 1.0),
        (caption, [1.0] * len(caption)),
        ([EOS], [1.0]),
    )


def test_interleaved_and_text() -> None:
    one, two = ids("first "), ids(" then")
    check(
        LAYOUTS.interleaved(["first ", RED, " then", RED]),
        ([BOS], [0.0]),
        (one, [1.0] * len(one)),
        picture(0.5, 1.0),
        (two, [1.0] * len(two)),
        picture(0.5, 1.0),
        ([EOS], [1.0]),
    )
    check(LAYOUTS.text("first "), ([BOS], [0.0]), (one, [1.0] * len(one)), ([EOS], [1.0]))


def test_video() -> None:
    meta = ids("1*2 24 fps 0.33 s")  # 2 latent frames are 8 frames
    told = [BOI, *meta, IMG, V, V + 1, EOL, EOF, V + 2, V + 3, EOL, EOF, EOI]
    weights = [1.0] * (len(meta) + 2) + [0.5, 0.5, 1.0, 1.0] * 2 + [1.0]
    text = ids("it moves")
    check(
        LAYOUTS.image("it moves", CLIP),
        ([BOS], [0.0]),
        (text, [1.0] * len(text)),
        (told, weights),
        ([EOS], [1.0]),
    )
    assert LAYOUTS.visual_length(CLIP.grid, CLIP.fps) == len(told)
    assert LAYOUTS.visual_length(RED.grid) == len(picture(0, 0)[0])


def test_chat_learns_answers_and_their_end_alone() -> None:
    before, after = ids("You are a helpful assistant. USER: "), ids("What colour?. ASSISTANT:")
    answer, again, yes = ids("red"), ids("USER: Sure?. ASSISTANT:"), ids("yes")
    turns = [Said("user", (RED, "What colour?")), Said("assistant", ("red",))]
    more = [Said("user", ("Sure?",)), Said("assistant", ("yes",))]
    check(
        LAYOUTS.chat([*turns, *more]),
        ([BOS], [0.0]),
        (before, [0.0] * len(before)),
        picture(0.0, 0.0),
        (after, [0.0] * len(after)),
        (answer, [1.0] * len(answer)),
        ([EOS], [1.0]),
        (again, [0.0] * len(again)),
        (yes, [1.0] * len(yes)),
        ([EOS], [1.0]),
    )
    told = LAYOUTS.chat_prompt(turns[:1]).tolist()
    assert told == [BOS, *before, *picture(0, 0)[0], *after]
    assert LAYOUTS.chat(turns).ids[: len(told)].tolist() == told
    said = LAYOUTS.chat([Said("system", ("Be brief.",)), *turns]).ids
    assert said[1 : 1 + len(ids("Be brief. USER: "))].tolist() == ids("Be brief. USER: ")
    assert Weights(text=1.0, vision=0.0, marks=0.0) == UNDERSTANDING


def test_a_prompt_is_what_its_sequence_begins_with() -> None:
    prompt = LAYOUTS.image_prompt("a red box", 2, 3).tolist()
    assert prompt == LAYOUTS.image("a red box", RED).ids[: len(prompt)].tolist()
    assert prompt[-1] == IMG


def test_pads_are_in_no_sequence_and_text_that_spells_a_mark_is_text() -> None:
    laid = LAYOUTS.text("<pad><image><|extra_200|>")
    assert laid.ids.max() == EOS and not {PAD, IMAGE, EOL, 0, 5} & set(laid.ids.tolist())


@pytest.mark.parametrize(
    ("visual", "said"),
    [
        (Visual(np.array([[[512]]])), "codes are 0 to 511"),
        (Visual(np.array([[[-1]]])), "codes are 0 to 511"),
        (Visual(np.zeros((1, 10_000, 1), int)), "has no text"),
        (Visual(np.zeros((2, 1, 1), int)), "has no frame rate"),
        (Visual(np.zeros((2, 1, 1), int), 0.0), "frames a second have no text"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(visual: Visual, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LAYOUTS.image("", visual)


def test_text_ids_and_grids_are_checked() -> None:
    with pytest.raises(ValueError, match="text ids are 0 to 4,095"):
        LAYOUTS.image(np.array([EOL]), RED)
    with pytest.raises(ValueError, match="6 codes do not fill a grid of 1x2x2"):
        shaped(np.arange(6), (1, 2, 2))
    assert shaped(np.arange(6), (1, 2, 3)).grid == (1, 2, 3)
    with pytest.raises(ValueError, match="user and assistant by turns"):
        LAYOUTS.chat([Said("assistant", ("x",))])


numbers = st.integers(0, 4095)
texts = st.lists(numbers, min_size=1, max_size=5).map(lambda found: np.array(found, np.int32))


@st.composite
def visuals(draw: Any) -> Visual:
    fps = draw(st.none() | st.floats(0.1, 240, allow_nan=False))
    frames = 1 if fps is None else draw(st.integers(1, 3))
    shape = (frames, draw(st.integers(1, 3)), draw(st.integers(1, 12)))
    flat = draw(st.lists(st.integers(0, 511), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return Visual(np.array(flat, np.int32).reshape(shape), fps)


@given(st.lists(visuals() | texts, max_size=4))
def test_reading_is_the_inverse_of_laying_out(pieces: list[Any]) -> None:
    laid = LAYOUTS.interleaved(pieces)
    (found,) = LAYOUTS.parse(laid.ids)
    assert LAYOUTS.interleaved(found).ids.tolist() == laid.ids.tolist()
    shown = [piece for piece in found if isinstance(piece, Visual)]
    given_ = [piece for piece in pieces if isinstance(piece, Visual)]
    assert [v.codes.tolist() for v in shown] == [v.codes.tolist() for v in given_]


@given(visuals(), st.data())
def test_ids_that_no_layout_makes_are_refused(visual: Visual, data: st.DataObject) -> None:
    """Any one id of a picture, made another kind, is told with its place."""
    good = LAYOUTS.image("x", visual).ids
    place = data.draw(st.integers(0, len(good) - 1))
    kinds = [PAD, EOL, EOF, BOS, EOS, IMG, BOI, EOI, IMAGE, V + 512, -1]
    bad = good.copy()
    bad[place] = data.draw(st.sampled_from([kind for kind in kinds if kind != good[place]]))
    if place == 1 and bad[place] == BOI:
        return  # another picture that begins there is told at its own grid
    try:
        found = LAYOUTS.parse(bad)
    except ValueError as error:
        assert "place" in str(error)
    else:  # an EOS in place of text or of a picture's end may begin another part
        assert bad[place] == EOS and len(found) == 2
    with pytest.raises(ValueError):
        LAYOUTS.parse_image(bad)


def test_an_image_sequence_says_its_caption_and_picture() -> None:
    caption, visual = LAYOUTS.parse_image(LAYOUTS.image("a red box", RED).ids)
    assert caption.tolist() == ids("a red box") and visual.codes.tolist() == RED.codes.tolist()
    assert len(LAYOUTS.parse_image(LAYOUTS.image("", RED).ids).caption) == 0
    for wrong in (LAYOUTS.text("x").ids, LAYOUTS.caption(RED, "x").ids):
        with pytest.raises(ValueError, match="no caption with one picture"):
            LAYOUTS.parse_image(wrong)
    with pytest.raises(ValueError, match="too few ids for a grid of 1x2x3"):
        LAYOUTS.parse(LAYOUTS.image("x", RED).ids[:-9])


def test_the_text_of_a_grid_is_one_to_one() -> None:
    assert meta_text((1, 90, 90)) == "90*90"
    assert meta_text((30, 64, 64), 24.0) == "64*64 24 fps 5.00 s"
    assert meta_grid("64*64 24 fps 5.00 s") == ((30, 64, 64), 24.0)
    for wrong in ("8", "08*8", "8*8 24 fps", "8*8 24.0 fps 5.00 s", "0*8", "8*8 24 fps 5.01 s", "８*8"):
        with pytest.raises(ValueError, match=r"grid|written|no text"):
            meta_grid(wrong)
