"""How samples become sequences: which layout, which way round, and what is dropped for guidance."""

import numpy as np
import pytest

from infinity_mm.models.tokenizer import FILE, tokenizer
from infinity_mm.schema import Part, Turn
from trainers.emu3.config import CAPTIONS
from trainers.emu3.documents import Drawn, Encoding, lay_out, open_layouts
from trainers.emu3.layouts import Said, Visual, Weights
from trainers.emu3.vocabulary import scaled

VOCABULARY = scaled(tokenizer(), 64)
PICTURE = Visual(np.arange(6).reshape(1, 2, 3))
CLIP = Visual(np.arange(12).reshape(2, 2, 3), 24.0)
LAYOUTS = open_layouts(str(FILE), VOCABULARY)
LAST, FIRST, NULL = Drawn(True, False), Drawn(False, False), Drawn(True, True)


def encoding(**more: object) -> Encoding:
    settings = {"answers_only": False, "drawn": 0.5, "null_prompt": 0.2, "seed": 0, **more}
    return Encoding(
        tokenizer=str(FILE),
        vocabulary=VOCABULARY,
        weights=Weights(),
        captions=CAPTIONS,
        **settings,  # type: ignore[arg-type]
    )


def turn(role: str, *parts: str | int) -> Turn:
    return Turn(role, tuple(Part("text", p) if isinstance(p, str) else Part("image", None, p) for p in parts))


CAPTIONED = (turn("user", 0, "\nDescribe the picture."), turn("assistant", "A red box."))
DRAWN = (turn("user", "A red box."), turn("assistant", 0))
ASKED = (turn("user", 0, "\nHow many boxes are there?"), turn("assistant", "One."))


def same(turns: tuple[Turn, ...], want: object, lot: Drawn = LAST, **more: object) -> bool:
    laid = lay_out(turns, [PICTURE, CLIP], encoding(**more), lot).laid
    ids, weights = want  # type: ignore[misc]
    return bool(np.array_equal(laid.ids, ids) and np.array_equal(laid.weights, weights))


def test_a_captioned_picture_comes_either_way_round() -> None:
    assert same(CAPTIONED, LAYOUTS.image("A red box.", PICTURE))
    assert same(CAPTIONED, LAYOUTS.caption(PICTURE, "A red box."), FIRST)
    assert same(CAPTIONED, LAYOUTS.image("", PICTURE), NULL)
    assert lay_out(CAPTIONED, [PICTURE], encoding()).caption == len(LAYOUTS.encode("A red box."))
    clip = (turn("user", 1, "What happens in this video?"), turn("assistant", "It moves."))
    assert same(clip, LAYOUTS.image("It moves.", CLIP))
    bare = (turn("user", 0), turn("assistant", "A red box."))
    assert same(bare, LAYOUTS.image("A red box.", PICTURE))


def test_a_drawn_answer_comes_after_what_was_asked() -> None:
    for lot in (LAST, FIRST):
        assert same(DRAWN, LAYOUTS.image("A red box.", PICTURE), lot)
    assert same(DRAWN, LAYOUTS.image("", PICTURE), NULL)


def test_other_conversations_are_chats_and_one_turn_is_what_it_is() -> None:
    said = [Said("user", (PICTURE, "\nHow many boxes are there?")), Said("assistant", ("One.",))]
    assert same(ASKED, LAYOUTS.chat(said))
    assert same((turn("assistant", "Once.", 0, " Then."),), LAYOUTS.interleaved(["Once.", PICTURE, " Then."]))
    assert same((turn("user", "Only text."),), LAYOUTS.text("Only text."))
    two = (turn("user", "Hello"), turn("assistant", "Hi"))
    assert same(two, LAYOUTS.chat([Said("user", ("Hello",)), Said("assistant", ("Hi",))]))
    both = (turn("user", 0, 1, "Describe the picture."), turn("assistant", "Two."))
    seen = [Said("user", (PICTURE, CLIP, "Describe the picture.")), Said("assistant", ("Two.",))]
    assert same(both, LAYOUTS.chat(seen))


def test_instruction_tuning_learns_answers_alone() -> None:
    laid = lay_out(CAPTIONED, [PICTURE], encoding(answers_only=True)).laid
    said = [Said("user", (PICTURE, "\nDescribe the picture.")), Said("assistant", ("A red box.",))]
    want = LAYOUTS.chat(said)
    assert np.array_equal(laid.ids, want.ids) and np.array_equal(laid.weights, want.weights)
    assert laid.ids[laid.weights > 0].tolist() == [*LAYOUTS.encode("A red box."), VOCABULARY.eos]
    assert not lay_out(DRAWN, [PICTURE], encoding(answers_only=True)).laid.weights[:-1].any()


@pytest.mark.parametrize(
    ("turns", "visuals", "said"),
    [
        (CAPTIONED, ["undecodable: no"], "^undecodable: no$"),
        ((turn("user", 0), turn("user", "x")), [PICTURE], "^bad_conversation: a chat is user"),
        ((Turn("user", (Part("image"),)),), [], "^missing_media: "),
        (CAPTIONED, [Visual(np.array([[[64]]]))], "^bad_conversation: codes are 0 to 63"),
    ],
)
def test_what_has_no_layout_is_told(turns: tuple[Turn, ...], visuals: list[Visual | str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lay_out(turns, visuals, encoding())


def test_lots_are_drawn_from_id_and_epoch_alone() -> None:
    one, ids = encoding(), [number.to_bytes(16, "big") for number in range(4000)]
    lots = [one.lot(identity, 0) for identity in ids]
    assert lots == [one.lot(identity, 0) for identity in ids]
    drawn = [lot.image_last for lot in lots]
    assert abs(np.mean(drawn) - 0.5) < 0.03
    assert abs(np.mean([lot.null for lot in lots if lot.image_last]) - 0.2) < 0.03
    assert not any(lot.null for lot in lots if not lot.image_last)
    later = [one.lot(identity, 1).image_last for identity in ids]
    assert abs(np.mean(np.equal(drawn, later)) - 0.5) < 0.03
    assert lots != [encoding(seed=1).lot(identity, 0) for identity in ids]
    assert not any(encoding(null_prompt=0.0).lot(identity, 0).null for identity in ids)
    assert all(encoding(drawn=1.0).lot(identity, 0).image_last for identity in ids)
