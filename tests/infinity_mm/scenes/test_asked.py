"""Reading questions back, and answering them from a scene's truth."""

import pytest

from infinity_mm.scenes import ScenesConfig
from infinity_mm.scenes.asked import Asked, read_question, right_answer
from infinity_mm.scenes.plan import make_plans
from infinity_mm.scenes.record import make_record

KINDS = ("colour", "shape", "size", "count", "exists", "relation", "read_text", "chart")


def thing(colour: str, shape: str, size: str) -> dict[str, str]:
    return {"colour": colour, "shape": shape, "size": size}


SCENE = {
    "objects": [
        thing("red", "star", "small"),
        thing("blue", "star", "small"),
        thing("red", "cross", "large"),
    ],
    "relations": [[0, "left", 1], [1, "right", 0], [0, "left", 2], [0, "above", 2]],
    "text": None,
    "chart": None,
}
CHART = {"objects": [], "relations": [], "text": None, "chart": [
    {"label": "A", "value": 3}, {"label": "B", "value": 7}]}  # fmt: skip
TEXT = {"objects": [], "relations": [], "text": {"text": "K7", "colour": "red"}, "chart": None}


def test_every_question_of_a_scene_is_read_as_it_was_meant() -> None:
    config = ScenesConfig(
        out="unused", count=400, seed=5, kinds=KINDS, multi_turn_share=0.7, turns=8, brief_share=0.5,
        multi_image_share=0, video_share=0, text_only_share=0,
    )  # fmt: skip
    plans = make_plans(config)
    read = set()
    for index in range(config.count):
        record = make_record(config, plans, index, [])
        turns, lang = record.entry["conversations"], record.truth["language"]
        for answer in record.truth["answers"]:
            if answer["kind"] == "caption":
                continue
            question = turns[answer["turn"] - 1]["value"].removeprefix("<image>\n")
            asked = read_question(lang, question)
            assert asked is not None, question
            assert asked.kind == answer["kind"]
            assert right_answer(record.truth["scenes"][0], asked) == answer["value"], question
            read.add((lang, asked.kind, asked.about.get("part"), asked.about.get("open")))
    assert len(read) == 2 * (5 + 2 + 5 + 5)  # languages; kinds, relations, parts of charts and of texts


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What color is the star?", None),
        ("What color is the cross?", "red"),
        ("What color is the circle?", None),
        ("What shape is the large object? Answer briefly.", "cross"),
        ("How many stars are there?", 2),
        ("How many circles are there?", 0),
        ("Is there a red star in the picture?", True),
        ("Can you see a green star?", False),
        ("Is the red star to the left of the blue star?", True),
        ("Is the red star above the blue star?", False),
        ("Is the blue star above the cross?", None),  # neither side is told
        ("Where is the red star relative to the blue star?", "left"),
        ("Where is the red star relative to the cross?", None),  # left and above
        ("Where is the cross relative to the cross?", None),
        ("What does the text say?", None),
        ("Which bar is the tallest?", None),
    ],
)
def test_answers_of_a_scene(question: str, answer: object) -> None:
    asked = read_question("en", question)
    assert asked is not None
    assert right_answer(SCENE, asked) == answer


@pytest.mark.parametrize(
    ("scene", "question", "answer"),
    [
        (CHART, "Which bar is the tallest?", "B"),
        (CHART, "Which label has the smallest value?", "A"),
        (CHART, "What is the value of bar C?", None),
        (CHART, "By how much do B and A differ?", 4),
        (CHART, "By how much do A and A differ?", None),
        (CHART, "How many stars are there?", None),
        (TEXT, "What is the first character of the text?", "K"),
        (TEXT, "In which color is the text written?", "red"),
        (TEXT, "How long is the text, in characters?", 2),
    ],
)
def test_answers_of_charts_and_texts(scene: dict[str, object], question: str, answer: object) -> None:
    asked = read_question("en", question)
    assert asked is not None
    assert right_answer(scene, asked) == answer


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What color is the big star?",
        "What color is the star",
        "Is the star red?",
        "What color is a star?",
    ],
)
def test_other_wordings_are_not_read(question: str) -> None:
    assert read_question("en", question) is None


def test_chinese_is_read() -> None:
    asked = read_question("zh", "图中有多少个红色的小五角星？请简短回答。")
    assert asked == Asked("count", {"them": thing("red", "star", "small")})
    assert right_answer(SCENE, asked) == 1
