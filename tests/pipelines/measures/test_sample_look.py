import pytest
from looks import PICTURE, look


def test_questions_and_answers_are_turns_with_text() -> None:
    seen = look(
        ("system", "Be brief."),
        ("user", [PICTURE, "\nWhat is it? "]),
        ("assistant", "A cat."),
        ("user", PICTURE),
        ("assistant", "A dog."),
        ("tool", "{}"),
    )
    assert seen.questions == ["What is it?"]
    assert seen.answers == ["A cat.", "A dog."]
    assert seen.exchanges == [("What is it?", "A cat.")]
    assert seen.text == "Be brief.\nWhat is it?\nA cat.\nA dog.\n{}"


def test_texts_on_two_sides_of_a_picture_are_apart() -> None:
    assert look(("user", ["compare", PICTURE, "with", PICTURE])).questions == ["compare with"]


def test_only_the_very_next_turn_answers() -> None:
    seen = look(("user", "One?"), ("user", "Two?"), ("assistant", "Yes."), ("assistant", "Both."))
    assert seen.exchanges == [("Two?", "Yes.")]


def test_no_turns() -> None:
    seen = look()
    assert (list(seen.questions), list(seen.answers), seen.text) == ([], [], "")


def test_meta_is_an_object() -> None:
    assert look(meta={"a": 1}).meta == {"a": 1}
    with pytest.raises(ValueError, match="meta is a JSON list, not an object"):
        _ = look(meta=[1]).meta
