"""How much a record of several questions or judgements holds, and how brief its answers are."""

import pytest

from infinity_mm.scenes import ScenesConfig
from infinity_mm.scenes.plan import make_plans
from infinity_mm.scenes.record import make_record


@pytest.mark.parametrize(("share", "brief"), [(0.0, 0), (1.0, 60)])
def test_answers_are_as_brief_as_told(share: float, brief: int) -> None:
    config = ScenesConfig(
        out="unused", count=60, kinds=("colour",), multi_turn_share=0, brief_share=share, chinese_share=0,
        multi_image_share=0, video_share=0, text_only_share=0,
    )  # fmt: skip
    plans = make_plans(config)
    answers = [make_record(config, plans, i, []).truth["answers"][0]["text"] for i in range(config.count)]
    assert sum(" " not in answer for answer in answers) == brief


def test_judgements_come_as_many_as_told() -> None:
    config = ScenesConfig(
        out="unused", count=20, kinds=("judge_answer",), judged=5,
        multi_image_share=0, video_share=0, text_only_share=0,
    )  # fmt: skip
    plans = make_plans(config)
    assert all(len(make_record(config, plans, i, []).truth["answers"]) == 5 for i in range(config.count))


@pytest.mark.parametrize("turns", [2, 9])
def test_a_conversation_has_as_many_questions_as_told(turns: int) -> None:
    config = ScenesConfig(
        out="unused", count=60, multi_turn_share=1, turns=turns,
        multi_image_share=0, video_share=0, text_only_share=0,
    )  # fmt: skip
    plans = make_plans(config)
    records = [
        make_record(config, plans, i, []) for i in range(config.count) if plans[i].kind == "conversation"
    ]
    assert max(len(record.truth["answers"]) for record in records) == turns


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 60, 60), (0.5, 15, 45)])
def test_texts_and_charts_are_as_many_as_told(share: float, least: int, most: int) -> None:
    config = ScenesConfig(
        out="unused", count=60, kinds=("caption",), multi_turn_share=0, other_share=share,
        multi_image_share=0, video_share=0, text_only_share=0,
    )  # fmt: skip
    plans = make_plans(config)
    truths = [make_record(config, plans, i, []).truth for i in range(config.count)]
    assert least <= sum(truth["scenes"][0]["kind"] != "shapes" for truth in truths) <= most


def test_questions_apart_are_about_different_objects() -> None:
    """An object with two attributes told in one question is not asked for in another of the record."""
    config = ScenesConfig(
        out="unused", count=200, multi_turn_share=1, turns=8, apart=True,
        multi_image_share=0, video_share=0, text_only_share=0,
    )  # fmt: skip
    plans = make_plans(config)
    several = 0
    for i in range(config.count):
        truth = make_record(config, plans, i, []).truth
        things, told = truth["scenes"][0]["objects"], []
        for answer in truth["answers"]:
            assert answer["kind"] != "caption"
            wanted, about = answer["about"].get("wanted", {}), answer["about"]
            told += [about[key] for key in ("object", "other") if key in about]
            if len(wanted) > 1:
                told += [n for n, t in enumerate(things) if all(t[p] == w for p, w in wanted.items())]
        assert len(told) == len(set(told))
        several += len(truth["answers"]) > 1 and bool(things)
    assert several > 50
