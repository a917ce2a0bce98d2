"""Vocabularies: what a file says, what a word means, and what is wrong with a file, by line."""

from pathlib import Path

import pytest

from infinity_mm.scenes.english import WORDS
from pipelines.tag.vocabulary import VOCABULARIES, Entry, Vocabulary, normal


def written(folder: Path, text: str) -> str:
    (folder / "v.txt").write_text(text, encoding="utf-8")
    return str(folder / "v.txt")


def test_entries(tmp_path: Path) -> None:
    found = Vocabulary.load(written(tmp_path, "# kinds\n\ndog | hound|puppy = 狗\n cat\nfish=鱼 \n"))
    assert found.entries == (Entry("dog", ("hound", "puppy"), "狗"), Entry("cat"), Entry("fish", (), "鱼"))
    assert found.tags == ["dog", "cat", "fish"]


def test_what_a_word_means(tmp_path: Path) -> None:
    found = Vocabulary.load(written(tmp_path, "dog | hound = 狗\nbus\nglasses\nbar chart\n"))
    for word in ("dog", "Dogs", " a  DOG", "the hound", "狗", "ｄｏｇ"):
        assert found.match(word) == "dog"
    assert [found.match(w) for w in ("buses", "bus", "glasses", "Bar  Charts")] == [
        "bus", "bus", "glasses", "bar chart",
    ]  # fmt: skip
    assert [found.match(w) for w in ("dogged", "", "a", "chart", "s")] == [None] * 5


def test_comments_and_spaces_are_not_of_the_digest(tmp_path: Path) -> None:
    one = Vocabulary.load(written(tmp_path, "dog|hound=狗\ncat\n")).digest
    assert Vocabulary.load(written(tmp_path, "\ufeff# x\ndog | hound = 狗\n\n cat ")).digest == one
    for other in ("cat\ndog|hound=狗\n", "dog|hound\ncat\n", "dog=狗\ncat\n"):
        assert Vocabulary.load(written(tmp_path, other)).digest != one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no tags: write one a line"),
        ("dog\ncat\ndog\n", "line 3: 'dog' is there already, in line 1: delete one"),
        ("dog | hound\nhound\n", "line 2: 'hound' is an alias of 'dog' already, in line 1"),
        ("dog\nwolf | dog\n", "line 2: 'dog' is there already, in line 1"),
        ("dog | dog\n", "line 1: 'dog' is there already"),
        ("dog | | hound\n", "line 1: an empty tag or alias"),
        ("= 狗\n", "line 1: an empty tag or alias"),
        ("dog =\n", "line 1: write TAG | ALIAS = CHINESE NAME"),
        ("dog = 狗 = 犬\n", "with one `=` or none"),
        ("Dog\n", "line 1: write 'dog' instead of 'Dog'"),
        ("the dog\n", "write 'dog' instead of 'the dog'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        Vocabulary.load(written(tmp_path, text))
    assert message in str(error.value) and "v.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_vocabulary_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no vocabulary 'genral': .* general, scenes; did you mean 'general'"
    ):
        Vocabulary.load("genral")
    (tmp_path / "v.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"can't be read: .*; write it as UTF-8 text"):
        Vocabulary.load(str(tmp_path / "v.txt"))


@pytest.mark.parametrize("name", sorted(p.stem for p in VOCABULARIES.glob("*.txt")))
def test_shipped(name: str) -> None:
    found = Vocabulary.load(name)
    chinese = [entry.chinese for entry in found.entries]
    assert all(chinese) and len(set(chinese)) == len(chinese)
    assert all(found.match(word) == e.tag for e in found.entries for word in (e.tag, *e.aliases, e.chinese))
    assert all(normal(tag) == tag for tag in found.tags)


def test_the_general_one_covers_all_kinds() -> None:
    found = Vocabulary.load("general")
    assert 600 <= len(found.tags) <= 1100
    for word in (
        "photo", "oil painting", "document", "receipt", "bar chart", "screenshot", "diagram", "table", "map",
        "handwriting", "person", "dog", "pizza", "car", "kitchen", "mountain", "red", "formula", "flowchart",
    ):  # fmt: skip
        assert found.match(word), word


def test_that_of_scenes_has_their_colours_and_shapes() -> None:
    drawn = {"red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan"}
    drawn |= {"circle", "square", "triangle", "star", "cross"}
    assert drawn <= WORDS.keys()
    assert set(Vocabulary.load("scenes").tags) == drawn | {"chart", "written text"}
