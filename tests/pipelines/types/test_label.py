"""Labels of seed questions: two choices an engine makes, and what becomes of an answer that is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import Scripted, picture_ids, prompt_of

from infinity_mm.engines.base import EngineError, Failure, Picture, Request
from infinity_mm.schema import Part, Sample, Turn
from pipelines.prompting import Template
from pipelines.types.label import Label, Labeller, Seed, seed_of
from pipelines.types.taxonomy import Taxonomy

GENERAL, SCENES = Taxonomy.load("general"), Taxonomy.load("scenes")


def seeds(*questions: str) -> list[Seed]:
    return [Seed(text, (Picture(f"{i:032x}", b"picture"),)) for i, text in enumerate(questions)]


def knowing(taxonomy: Taxonomy, types: dict[str, str], lang: str = "en") -> Callable[[Request], str]:
    """What an engine says that knows the type of each question."""

    def say(request: Request) -> str:
        [id] = [id for question, id in types.items() if question in prompt_of(request)]
        path = {taxonomy.types[id].name.said(lang), taxonomy.group_of[id].name.said(lang)}
        [said] = path & set(request.choices)
        return said

    return say


def test_each_seed_gets_its_type() -> None:
    types = {"What color is it?": "colour", "Why is it so?": "cause", "Describe it all.": "description"}
    engine = Scripted(knowing(GENERAL, types))
    found = Labeller(engine, GENERAL).label(seeds(*types))
    assert found == [
        Label("colour", "single_instance"),
        Label("cause", "logic_reasoning"),
        Label("description", "coarse_perception"),
    ]
    assert len(engine.asked) == 6
    groups, leaves = engine.asked[:3], engine.asked[3:]
    assert all(request.choices == tuple(g.name.en for g in GENERAL.groups) for request in groups)
    assert max(len(request.choices) for request in leaves) <= 24
    for request in engine.asked:
        assert len(picture_ids(request)) == 1 and request.temperature == 0
        assert all(choice in prompt_of(request) for choice in request.choices)


def test_in_chinese() -> None:
    engine = Scripted(knowing(GENERAL, {"这是什么颜色？": "colour"}, "zh"))
    assert Labeller(engine, GENERAL, "zh").label(seeds("这是什么颜色？")) == [
        Label("colour", "single_instance")
    ]
    assert "粗粒度感知" in engine.asked[0].choices and "只回答名称" in prompt_of(engine.asked[0])


def test_a_level_of_one_is_not_asked_about() -> None:
    engine = Scripted(knowing(SCENES, {"How many?": "count", "What shape?": "shape"}))
    assert Labeller(engine, SCENES).label(seeds("How many?", "What shape?")) == [
        Label("count", "cross_instance"), Label("shape", "single_instance"),
    ]  # fmt: skip
    assert len(engine.asked) == 3
    one = Taxonomy("one", (SCENES.groups[0],))
    silent = Scripted(lambda request: "")
    assert Labeller(silent, one).label(seeds("Is it?")) == [Label("exists", "coarse_perception")]
    assert not silent.asked


def test_what_is_no_choice_is_a_failure() -> None:
    said = iter(["Something else", "fine-grained perception of ONE thing", "", "no idea"])

    def say(request: Request) -> str | Failure:
        text = prompt_of(request)
        if "Broken" in text:
            return Failure("server_error", "500")
        return next(said)

    engine = Scripted(say)
    found = Labeller(engine, SCENES).label(seeds("Q1?", "Broken?", "Q2?", "Q3?", ""))
    assert found == [
        Failure("no_choice", "'' is none of the choices"),
        Failure("server_error", "500"),
        Failure("no_choice", "'no idea' is none of the choices"),
        Failure("no_choice", "'Something else' is none of the choices"),
        Failure("no_question", "the seed has no text"),
    ]


def test_an_engine_that_dies_ends_the_labelling() -> None:
    engine = Scripted(knowing(SCENES, {"How many?": "count"}), dies_at=0)
    with pytest.raises(EngineError):
        Labeller(engine, SCENES).label(seeds("How many?"))
    assert Labeller(engine, SCENES).label([]) == []


def test_a_question_never_becomes_a_template() -> None:
    text = "{options} {group} {question} " + "x" * 5000
    engine = Scripted(lambda request: request.choices[0])
    Labeller(engine, SCENES).label(seeds(text))
    assert "{options} {group} {question} xxx" in prompt_of(engine.asked[0])
    assert len(prompt_of(engine.asked[0])) < 4000


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "label_group.en.txt").write_text("{question} of {options}")
    engine = Scripted(lambda request: request.choices[0])
    own, shipped = Labeller(engine, SCENES, "en", [str(tmp_path)]), Labeller(engine, SCENES)
    own.label(seeds("How many?"))
    assert prompt_of(engine.asked[0]).startswith("How many? of Coarse perception: ")
    assert own.digests["label_leaf"] == shipped.digests["label_leaf"]
    assert own.digests["label_group"] == Template("x", "en", "{question} of {options}").digest
    assert own.digests["taxonomy"] == SCENES.digest
    (tmp_path / "label_leaf.en.txt").write_text("{question}")
    with pytest.raises(ValueError, match=r"label_leaf\.en has no slot \{group\}"):
        Labeller(engine, SCENES, "en", [str(tmp_path)])


def test_the_seed_of_a_sample_is_its_first_question() -> None:
    turns = (
        Turn("system", (Part("text", "Be brief."),)),
        Turn("user", (Part("image", media=0),)),
        Turn("user", (Part("image", media=0), Part("text", " What? "))),
        Turn("assistant", (Part("text", "That."),)),
        Turn("user", (Part("text", "And?"),)),
    )
    sample = Sample(b"0" * 16, turns, (b"1" * 16,), "s", "{}", None, ("a",), "x:1")
    picture = Picture("1" * 32, b"")
    assert seed_of(sample, [picture]) == Seed("What?", (picture,))
    assert seed_of(sample._replace(turns=turns[:1]), []) == Seed("", ())
