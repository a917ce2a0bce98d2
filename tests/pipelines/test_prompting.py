"""Prompt templates: which file is taken, what a slot is, and that what fills one is never read again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prompting import LANGUAGES, PROMPTS, SLOT, Template


def _written(folder: Path, text: str | bytes, name: str = "mine.en.txt") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_a_template_is_filled() -> None:
    template = Template("t", "en", "About {leaf}, {leaf} and {n}.")
    assert template.slots == ("leaf", "n")
    assert template.fill(leaf="colour", n=3) == "About colour, colour and 3."


def test_only_slots_are_slots() -> None:
    template = Template("t", "en", 'JSON such as {"score": {score}}, {}, {A}, {{score}} and {1}.')
    assert template.fill(score=7) == 'JSON such as {"score": 7}, {}, {A}, {7} and {1}.'


@given(st.text(), st.text())
def test_what_fills_a_slot_is_never_read(first: str, second: str) -> None:
    template = Template("t", "en", "<{first}|{second}>")
    for told in (first, "{second}", "{first}", "{0}", r"\1 \g<0>", "{unknown}"):
        assert template.fill(first=told, second=second) == f"<{told}|{second}>"


def test_a_missing_and_an_unknown_slot_are_errors() -> None:
    template = Template("t", "zh", "问：{question}")
    with pytest.raises(ValueError, match=r"prompt t\.zh: nothing is given for its slot \{question\}"):
        template.fill()
    with pytest.raises(ValueError, match=r"prompt t\.zh has no slot \{answer\}; its slots: \{question\}"):
        template.fill(question="x", answer="y")
    with pytest.raises(ValueError, match="no slot"):
        template.needs("question", "answer")
    assert template.needs("question") is template


def test_a_users_folder_comes_first(tmp_path: Path) -> None:
    shipped = Template.load("tags", "en", [tmp_path])
    assert shipped == Template.load("tags", "en")
    own = Template.load("tags", "en", [_written(tmp_path, " Say {limit} tags.\n", "tags.en.txt")])
    assert own.text == "Say {limit} tags."
    assert own.digest != shipped.digest and len(own.digest) == 16
    assert Template.load("tags", "zh", [tmp_path]).text == Template.load("tags", "zh").text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"no prompt mine\.en\.txt: put it into a folder of prompts; those that ship: .*tags\.en\.txt"),
        (" \n", "is empty: write it, or delete it"),
        (b"\xff\xfe", "can't be read: .*; write it as UTF-8 text"),
    ],
)
def test_what_is_no_template(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    folder = tmp_path if text is None else _written(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        Template.load("mine", "en", [folder])


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder of prompts"):
        Template.load("tags", "en", [tmp_path / "gone"])


@pytest.mark.parametrize("path", sorted(PROMPTS.glob("*.en.txt")), ids=lambda path: path.name)
def test_each_shipped_prompt_has_every_language_with_the_same_slots(path: Path) -> None:
    name = path.name.removesuffix(".en.txt")
    slots = [set(Template.load(name, lang).slots) for lang in LANGUAGES]
    assert all(each == slots[0] for each in slots)


def test_no_shipped_prompt_has_a_brace_that_is_no_slot_by_mistake() -> None:
    for path in PROMPTS.glob("*.txt"):
        rest = SLOT.sub("", path.read_text(encoding="utf-8"))
        assert "{ " not in rest and " }" not in rest, path
