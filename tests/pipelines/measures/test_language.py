import json
from collections import Counter
from pathlib import Path

import pytest
from looks import asked, look, values

from pipelines.measures.language import LANGUAGE, Found, language_of


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What color is the circle?", "en"),
        ("THERE ARE TWO PEOPLE RIDING HORSES ON THE BEACH SHORE", "en"),
        ("图中有一个红色的圆形。", "zh"),
        ("圖中有一個紅色的圓形。", "zh"),
        ("红", "zh"),
        ("该几何体的表面积为 $20 \\pi + \\sqrt{2}$ A. $24 \\pi$ B. $28 \\pi$", "zh"),
        ("用AI模型识别图片", "zh"),
        ("灰色の背景に色のついた図形があります。", "ja"),
        ("이 그림에는 빨간 원이 있습니다.", "ko"),
        ("Das Bild zeigt eine farbige Form vor grauem Hintergrund.", "de"),
        ("L'image montre une forme colorée sur un fond gris.", "fr"),
        ("На картинке изображена цветная фигура.", "ru"),
        ("Yes.", "und"),
        ("cloak", "und"),
        ("3185", "und"),
        ("[0.552, 0.808]", "und"),
        ("https://example.org/the/page/of/the/day", "und"),
        ("", "und"),
    ],
)
def test_language(text: str, code: str) -> None:
    assert values(LANGUAGE, asked("?", text or "!"))["answer_language"] == code


def test_scores() -> None:
    got = values(LANGUAGE, asked("What color is the circle?", "3"))
    assert (got["language"], got["answer_language"]) == ("en", "und")
    assert 0.8 < got["language_score"] <= 1
    assert values(LANGUAGE, asked("?", "3"))["language_score"] is None


def test_questions_and_answers_agree() -> None:
    english, chinese = "What is shown in the picture?", "图中有一个红色的圆形。"
    assert values(LANGUAGE, asked(english, "The picture shows a red circle."))["languages_agree"] is True
    assert values(LANGUAGE, asked(english, chinese))["languages_agree"] is False
    assert values(LANGUAGE, asked(english, "Circle"))["languages_agree"] is None
    assert values(LANGUAGE, look(("assistant", chinese)))["languages_agree"] is None


def test_one_answer_of_many_in_another_language_is_seen() -> None:
    question, answer = ("user", "图中有什么？"), ("assistant", "图中有一个红色的圆形，还有两个蓝色的正方形。")
    foreign = ("assistant", "There are four small orange triangles in it.")
    got = values(LANGUAGE, look(question, answer, question, answer, question, foreign))
    assert (got["answer_language"], got["languages_agree"]) == ("zh", False)


def test_a_question_too_short_counts_as_in_the_language_of_the_others() -> None:
    english = ("user", "What is shown in this picture here?"), ("assistant", "A circle.")
    assert (
        values(LANGUAGE, look(*english, ("user", "2?"), ("assistant", "图中有圆形。")))["languages_agree"]
        is False
    )


def test_no_text_has_no_language() -> None:
    assert set(values(LANGUAGE, look()).values()) == {None}


def test_a_model_in_doubt_is_not_believed() -> None:
    text = "one two three four"
    assert language_of(text, lambda _: Found("pl", 0.6)).code == "und"
    assert language_of(text, lambda _: Found("pl", 0.7)).code == "pl"
    assert language_of(text, lambda _: Found("en", 0.4)).code == "en"
    assert language_of(text * 3, lambda _: Found("pl", 0.6)).code == "pl"
    assert language_of("espresso machine", lambda _: Found("it", 0.7)).code == "und"


def test_captions_of_known_language(shared_data: Path) -> None:
    said: Counter[tuple[str, str]] = Counter()
    of = LANGUAGE.open({})
    for line in (shared_data / "flickr8k.jsonl").read_text().splitlines()[:100]:
        row = json.loads(line)
        for code, texts in (("en", row["text"]), ("zh", row["text_zh"])):
            said.update((code, of(look(("assistant", text)))[3]) for text in texts)
    assert said["zh", "zh"] == 500
    assert said["en", "en"] >= 490
    assert said["en", "en"] + said["en", "und"] == 500
