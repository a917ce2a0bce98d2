"""Conversations spoiled in a known way.

A defect changes the content in place and returns what was done as JSON, the sub-kind under "sub_kind".
The truth in `answers` stays what is right, whatever the turns now say.
"""

from collections.abc import Callable
from typing import Any

from numpy.random import Generator

from .captions import caption, spoiled
from .conversations import MARKERS, Content
from .language import say
from .randomness import pick

ConversationDefect = Callable[[Content, Generator], dict[str, Any]]
GREETING = {"en": "Hello! What would you like to know?", "zh": "你好！你想知道什么？"}
AGAIN = {"en": "Are you there? Please answer.", "zh": "你在吗？请回答。"}
FOREIGN = {
    "french": (
        "L'image montre une forme colorée sur un fond gris.",
        "On voit des formes géométriques, mais je ne suis pas sûr de leur nombre.",
    ),
    "german": (
        "Das Bild zeigt eine farbige Form vor grauem Hintergrund.",
        "Man sieht einige Figuren, doch ihre Anzahl ist schwer zu erkennen.",
    ),
    "spanish": (
        "La imagen muestra una figura de color sobre un fondo gris.",
        "Se ven varias formas geométricas en la parte central.",
    ),
    "russian": (
        "На картинке изображена цветная фигура на сером фоне.",
        "Здесь видно несколько геометрических фигур.",
    ),
    "japanese": ("灰色の背景に色のついた図形があります。", "いくつかの図形が見えます。"),
}


def _shift_answers(content: Content, by: int, start: int = 0) -> None:
    for answer in content.answers:
        if answer["turn"] >= start:
            answer["turn"] += by


def broken_roles(content: Content, rng: Generator) -> dict[str, Any]:
    """Two human turns in a row, an assistant's turn first, or a role no one knows."""
    which = pick(rng, ("two_humans", "starts_with_gpt", "unknown_role"))
    if which == "two_humans":
        turn = pick(rng, content.answers)["turn"]
        content.turns.insert(turn, {"from": "human", "value": AGAIN[content.language]})
        _shift_answers(content, 1, turn)
    elif which == "starts_with_gpt":
        if content.turns[0]["from"] == "system":
            content.turns.pop(0)
            _shift_answers(content, -1)
        content.turns.insert(0, {"from": "gpt", "value": GREETING[content.language]})
        _shift_answers(content, 1)
    else:
        content.turns[pick(rng, content.answers)["turn"]]["from"] = "narrator"
    return {"sub_kind": which}


def empty_turn(content: Content, rng: Generator) -> dict[str, Any]:
    """An answer without text or of white space, or a question of nothing but its markers."""
    which = pick(rng, ("empty_answer", "blank_answer", "empty_question"))
    turn = pick(rng, content.answers)["turn"]
    if which == "empty_question":
        turn -= 1
        marker = MARKERS.get(content.medium, "<image>")
        content.turns[turn]["value"] = "\n".join([marker] * content.turns[turn]["value"].count(marker))
    else:
        content.turns[turn]["value"] = "" if which == "empty_answer" else pick(rng, (" ", "\n", " \n "))
    return {"sub_kind": which, "turn": turn}


def marker_mismatch(content: Content, rng: Generator) -> dict[str, Any]:
    """A marker too few, one too many, or markers in a record that names no medium."""
    which = pick(rng, ("missing_marker", "extra_marker", "no_media"))
    first = content.turns[content.answers[0]["turn"] - 1]
    marker = MARKERS[content.medium]
    if which == "missing_marker":
        first["value"] = first["value"].replace(marker + "\n", "", 1)
    elif which == "extra_marker":
        first["value"] = f"{marker}\n{first['value']}"
    else:
        content.media.clear()
        content.files.clear()
    return {"sub_kind": which}


def missing_file(content: Content, rng: Generator) -> dict[str, Any]:
    """A medium that the record names and the folder lacks."""
    name = pick(rng, content.media)
    del content.files[name]
    return {"file": name}


def answer_leaked(content: Content, rng: Generator) -> dict[str, Any]:
    """A question that tells its answer."""
    answer = pick(rng, content.answers)
    turn = answer["turn"] - 1
    content.turns[turn]["value"] += "\n" + say(content.language, "leak", rng, value=answer["text"])
    return {"turn": turn}


def refusal(content: Content, rng: Generator) -> dict[str, Any]:
    """An assistant that declines to answer."""
    turn = pick(rng, content.answers)["turn"]
    content.turns[turn]["value"] = say(content.language, "refusal", rng)
    return {"turn": turn}


def repeated_phrase(content: Content, rng: Generator) -> dict[str, Any]:
    """An answer said 8 to 15 times over."""
    turn = pick(rng, content.answers)["turn"]
    times = int(rng.integers(8, 16))
    gap = pick(rng, (" ", "\n")) if content.language == "en" else pick(rng, ("，", "\n"))
    content.turns[turn]["value"] = gap.join([content.turns[turn]["value"]] * times)
    return {"turn": turn, "times": times}


def wrong_language(content: Content, rng: Generator) -> dict[str, Any]:
    """An answer in another language than the question: Chinese for English or the reverse, or a third one."""
    turn = pick(rng, content.answers)["turn"]
    which = pick(rng, ("swapped", *FOREIGN))
    if which == "swapped":
        other = "en" if content.language == "zh" else "zh"
        value, language = caption(content.scenes[0], other, rng), other
    else:
        value, language = pick(rng, FOREIGN[which]), which
    content.turns[turn]["value"] = value
    return {"sub_kind": which, "turn": turn, "answered_in": language}


def false_caption(content: Content, rng: Generator) -> dict[str, Any]:
    """A caption that contradicts the picture in one stated way."""
    turn = content.answers[0]["turn"]
    other, detail = spoiled(content.scenes[0], rng)
    content.turns[turn]["value"] = caption(other, content.language, rng)
    return {**detail, "turn": turn}


CONVERSATION_DEFECTS: dict[str, ConversationDefect] = {
    "broken_roles": broken_roles,
    "empty_turn": empty_turn,
    "marker_mismatch": marker_mismatch,
    "missing_file": missing_file,
    "answer_leaked": answer_leaked,
    "refusal": refusal,
    "repeated_phrase": repeated_phrase,
    "wrong_language": wrong_language,
    "false_caption": false_caption,
}
