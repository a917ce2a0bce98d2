"""Taxonomies: what ships is whole, words find types, and what is wrong with a file is told with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from infinity_mm.scenes import chinese, english
from pipelines.types.taxonomy import TAXONOMIES, Taxonomy

GROUPS = [
    "coarse_perception", "single_instance", "cross_instance", "relation_reasoning", "attribute_reasoning",
    "logic_reasoning",
]  # fmt: skip


def words(en: str, zh: str = "") -> dict[str, str]:
    return {"en": en, "zh": zh or f"中{en}"}


def leaf(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "name": words(id.title()), "meaning": words("M."), "example": words("E?"), **more}


def tree(*types: dict[str, Any], **more: Any) -> dict[str, Any]:
    topic = {"id": "topic", "name": words("Topic"), "types": list(types)}
    group = {"id": "group", "name": words("Group"), "meaning": words("M."), "topics": [topic]}
    return {"name": "mine", "groups": [group], **more}


def load(folder: Path, what: Any) -> Taxonomy:
    text = what if isinstance(what, str) else yaml.safe_dump(what, allow_unicode=True)
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return Taxonomy.load(str(folder / "mine.yaml"))


def test_a_word_finds_its_type(tmp_path: Path) -> None:
    found = load(tmp_path, tree(leaf("count", aliases=["counting", "Tally Up"]), leaf("colour")))
    assert list(found.types) == ["count", "colour"]
    for word in ("count", "Count", "中Count", "counting", " tally  up", "COUNTING"):
        assert found.get(word).id == "count"
    assert found.find("nothing") is None
    with pytest.raises(ValueError, match="taxonomy mine has no type 'colours'; did you mean 'colour'"):
        found.get("colours")
    assert found.path("colour") == ("group", "topic", "colour")
    assert found.group_of["colour"].id == "group"


def test_renamed_and_merged_types_are_found_by_their_former_ids(tmp_path: Path) -> None:
    before = load(tmp_path, tree(leaf("ocr"), leaf("transcribe"), leaf("colour")))
    after = load(tmp_path, tree(leaf("read_text", aliases=["ocr", "transcribe"]), leaf("colour")))
    assert [after.get(id).id for id in before.types] == ["read_text", "read_text", "colour"]
    assert before.digest != after.digest


def test_what_prompts_call_a_type(tmp_path: Path) -> None:
    found = load(tmp_path, tree(leaf("count", asks=words("the number", "数量")), leaf("colour")))
    assert [found.types[id].called(lang) for id in found.types for lang in ("en", "zh")] == [
        "the number", "数量", "Colour", "中Colour",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (tree(leaf("a"), leaf("a")), "group.topic.a: '中a', its name, is the name of group.topic.a already"),
        (tree(leaf("a"), leaf("b", name=words("A", "乙"))), "group.topic.b: 'a', its name, is the id of"),
        (tree(leaf("a"), leaf("b", aliases=["A"])), "topic.b: 'a', its alias, is the id of group.topic.a"),
        (tree(leaf("a", aliases=["x"]), leaf("b", aliases=["X "])), "'x', its alias, is the alias of"),
        (tree(leaf("a", name={"en": "A"})), "name.zh is missing: write it in English and in Chinese"),
        (tree(leaf("a", example=words("E?", " "))), "types[0].example.zh is empty"),
        (tree(leaf("a", asks={"zh": "数"})), "types[0].asks.en is missing"),
        (tree(leaf("A b")), "types[0].id is 'A b': an id has small letters, digits and _"),
        (tree(leaf("a", colour="x")), "types[0].colour is unknown: check its spelling"),
        (tree(), "groups[0].topics[0].types is empty"),
        ({"name": "mine"}, "groups is missing"),
        ({"name": "mine", "groups": tree(leaf("a"))["groups"] * 2}, "group: '中group', its name, is"),
        ("name: mine\ngroups: &g [*g]\n", "groups[0] is"),
        ("- a\n", "the file is"),
        ("name: [", "is not YAML"),
        ("name: a\nname: b\n", "the key 'name' is given twice"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, what: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        load(tmp_path, what)
    said = str(error.value)
    assert message in said and said.startswith(f"taxonomy {tmp_path / 'mine.yaml'}") and "\n" not in said


def test_a_part_that_contains_itself_is_refused(tmp_path: Path) -> None:
    text = yaml.safe_dump(tree(leaf("a"))).replace("topics:", "topics: &t")
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        load(tmp_path, text + "  more: *t\n")
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        load(tmp_path, "&all\nname: mine\ngroups:\n- *all\n")


def test_a_taxonomy_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"no taxonomy 'scene': .* general, scenes; did you mean 'scenes'"):
        Taxonomy.load("scene")


@pytest.mark.parametrize("name", sorted(p.stem for p in TAXONOMIES.glob("*.yaml")))
def test_shipped(name: str) -> None:
    found = Taxonomy.load(name)
    assert found.name == name and [group.id for group in found.groups] == GROUPS
    for one in found.types.values():
        assert one.asks is not None
        for en in (one.name.en, one.meaning.en, one.example.en, one.asks.en):
            assert en.isascii() and en == en.strip()
        for zh in (one.name.zh, one.meaning.zh, one.example.zh, one.asks.zh):
            assert any("\u4e00" <= letter <= "\u9fff" for letter in zh)
        assert one.meaning.en.endswith(".") and one.meaning.zh.endswith("。")
        assert one.asks.en[0].islower() and not one.asks.en.endswith(".")
        assert found.get(one.id) is found.get(one.name.en) is found.get(one.name.zh) is one
    names = [one.name.en for one in found.types.values()]
    assert not any(name.lower().startswith("other") for name in names)


def test_the_general_one_has_the_published_breadth() -> None:
    found = Taxonomy.load("general")
    assert 55 <= len(found.types) <= 75
    assert max(len(group.types) for group in found.groups) <= 24
    examples = [one.example.en for one in found.types.values()]
    assert len(set(examples)) == len(examples)


def test_that_of_scenes_speaks_as_scenes_do() -> None:
    found = Taxonomy.load("scenes")
    assert {id: one.called("en") for id, one in found.types.items()} == english.KIND_NAMES
    assert {id: one.called("zh") for id, one in found.types.items()} == chinese.KIND_NAMES
