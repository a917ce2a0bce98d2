"""From a kind of record to its scenes and its conversation, all of it true."""

from dataclasses import dataclass, field
from typing import Any

from numpy.random import Generator

from .captions import caption, caption_value
from .config import ScenesConfig
from .judging import Exchange, judge_answer, judge_relevance, score_answer, write_question
from .language import choose, say, word
from .questions import ASKABLE, Ask, ask
from .randomness import chance, pick
from .text_only import text_question
from .world import Scene, draw_chart, draw_clip, draw_shapes, draw_text

MARKERS = {"image": "<image>", "images": "<image>", "video": "<video>"}
JUDGING = {
    "write_question": write_question,
    "judge_relevance": judge_relevance,
    "judge_answer": judge_answer,
    "score_answer": score_answer,
}


@dataclass
class Content:
    """Scenes in the order of their markers, LLaVA turns, and the truth of each assistant turn.

    `media` are the names the record refers to, `files` what is to be written under names.
    An answer is {"turn": index among the turns, "kind", "value", "text", "about"}.
    """

    medium: str
    language: str
    scenes: list[Scene]
    turns: list[dict[str, str]]
    answers: list[dict[str, Any]]
    media: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


def _exchange(made: Ask, lang: str, rng: Generator, brief_share: float) -> Exchange:
    """The question with its full answer, or asked for a brief one with the brief one."""
    truth = {"kind": made.kind, "value": made.value, "about": made.about}
    if chance(rng, brief_share):
        gap = "" if lang == "zh" else " "
        return made.question + gap + choose(lang, "brief", rng), made.brief(made.value), truth
    return made.question, made.full(made.value), truth


def _caption(scene: Scene, lang: str, rng: Generator) -> Exchange:
    key = "clip_caption.q" if scene.motion else "caption.q"
    truth = {"kind": "caption", "value": caption_value(scene), "about": {}}
    return say(lang, key, rng), caption(scene, lang, rng), truth


def _named(scene: Scene, made: Ask) -> set[int]:
    """The objects that a question, with its answer, binds an attribute of to another."""
    named = {made.about[key] for key in ("object", "other") if key in made.about}
    wanted = made.about.get("wanted", {})
    if len(wanted) > 1:
        named |= {i for i, t in enumerate(scene.things) if all(getattr(t, p) == w for p, w in wanted.items())}
    return named


def _several(config: ScenesConfig, scene: Scene, lang: str, rng: Generator) -> list[Exchange]:
    """Two or more different questions about one scene, sometimes with a description first."""
    wanted = int(rng.integers(2, config.turns + 1))
    exchanges = [_caption(scene, lang, rng)] if chance(rng, 0.25) and not config.apart else []
    asked: list[tuple[str, str]] = []
    told: set[int] = set()
    for _ in range(10 * config.turns):
        if len(exchanges) == wanted:
            break
        made = ask(scene, pick(rng, ASKABLE[scene.kind]), lang, rng)
        if made is None or (made.kind, repr(made.about)) in asked:
            continue
        named = _named(scene, made)
        if config.apart and told & named:
            continue
        told |= named
        asked.append((made.kind, repr(made.about)))
        exchanges.append(_exchange(made, lang, rng, config.brief_share))
    return exchanges


def _compare(scenes: list[Scene], part: str, lang: str, rng: Generator) -> Exchange:
    """A question about two pictures: which shows more, or whether their single objects agree."""
    first, second = scenes
    question = say(lang, f"{part}.q", rng)
    truth: dict[str, Any] = {"kind": "compare", "about": {"part": part}}
    if part == "more":
        a, b = len(first.things), len(second.things)
        value = "same" if a == b else "first" if a > b else "second"
        if a == b:
            return question, say(lang, "more.same", rng), {**truth, "value": value}
        return question, say(lang, "more.a", rng, value=word(lang, value)), {**truth, "value": value}
    name = part.removeprefix("same_")
    one, two = (getattr(s.things[0], name) for s in scenes)
    slots = {"first": word(lang, one), "second": word(lang, two)}
    if name == "shape" and lang == "en":
        slots = {"first": f"{one}s" if one == two else f"a {one}", "second": f"a {two}"}
        slots = {k: v.replace("crosss", "crosses") for k, v in slots.items()}
    key = "same.yes" if one == two else "same.no"
    return question, say(lang, key, rng, **slots), {**truth, "value": one == two}


def _pair(config: ScenesConfig, rng: Generator) -> tuple[list[Scene], str]:
    """Two scenes and what is to be compared."""
    parts = ("more", "same_colour", "same_shape") if config.max_objects > 1 else ("same_colour", "same_shape")
    part = pick(rng, parts)
    if part == "more":
        return [_shapes(config, rng, repeated=chance(rng, 0.5)) for _ in range(2)], part
    name, alike = part.removeprefix("same_"), chance(rng, 0.5)
    while True:
        scenes = [draw_shapes(rng, config.size, 1) for _ in range(2)]
        if (getattr(scenes[0].things[0], name) == getattr(scenes[1].things[0], name)) == alike:
            return scenes, part


def _shapes(config: ScenesConfig, rng: Generator, least: int = 1, repeated: bool = False) -> Scene:
    """A scene of shapes; small numbers of objects are more frequent unless objects repeat."""
    most = config.max_objects
    number = int(rng.integers(least, most + 1))
    if not repeated and chance(rng, 0.4):
        number = int(rng.integers(least, min(most, max(least, 2)) + 1))
    return draw_shapes(rng, config.size, number, repeated)


def draw_scene(config: ScenesConfig, kind: str, rng: Generator) -> Scene:
    """A scene that suits a one-picture record of that kind."""
    if kind == "read_text":
        return draw_text(rng, config.size)
    if kind == "chart":
        return draw_chart(rng, config.size)
    if kind in ("caption", "conversation", *JUDGING):
        other = float(rng.random())
        if other < config.other_share:
            return (
                draw_text(rng, config.size)
                if other < config.other_share / 2
                else draw_chart(rng, config.size)
            )
    if kind == "relation":
        return _shapes(config, rng, least=2)
    repeated = {"count": 0.7, "caption": 0.4, "conversation": 0.4}.get(kind, 0.0)
    return _shapes(config, rng, repeated=chance(rng, repeated))


def exchanges_for(
    config: ScenesConfig, scene: Scene, kind: str, lang: str, rng: Generator
) -> list[Exchange] | None:
    """The questions and answers of a record of that kind, or None if the scene has none."""
    if kind == "conversation":
        return _several(config, scene, lang, rng)
    if kind == "caption":
        return [_caption(scene, lang, rng)]
    if kind in JUDGING:
        return [JUDGING[kind](scene, lang, rng) for _ in range(config.judged)]
    made = ask(scene, kind, lang, rng) if kind in ASKABLE[scene.kind] else None
    return None if made is None else [_exchange(made, lang, rng, config.brief_share)]


def assemble(
    medium: str, lang: str, scenes: list[Scene], exchanges: list[Exchange], system: str = ""
) -> Content:
    """Turns with the media markers in front of the first question, and the answers' truth."""
    content = Content(medium, lang, scenes, [{"from": "system", "value": system}] if system else [], [])
    markers = "".join(MARKERS[medium] + "\n" for _ in scenes)
    for question, answer, truth in exchanges:
        content.turns.append({"from": "human", "value": markers + question})
        content.answers.append({"turn": len(content.turns), **truth, "text": answer})
        content.turns.append({"from": "gpt", "value": answer})
        markers = ""
    return content


def make_content(config: ScenesConfig, medium: str, kind: str, lang: str, rng: Generator) -> Content:
    """A clean record's scenes and conversation."""
    system = choose(lang, "system", rng) if chance(rng, config.system_share) else ""
    if medium == "text":
        return assemble(medium, lang, [], [text_question(lang, rng)], system)
    if medium == "images":
        scenes, part = _pair(config, rng)
        return assemble(medium, lang, scenes, [_compare(scenes, part, lang, rng)], system)
    while True:
        scene = draw_clip(rng, config.size) if medium == "video" else draw_scene(config, kind, rng)
        exchanges = exchanges_for(config, scene, kind, lang, rng)
        if exchanges:
            return assemble(medium, lang, [scene], exchanges, system)
