"""Conversations in which the assistant writes or judges: questions, relevance, answers, scores.

Their prompts say "Question:" and "Reply:", never "Answer:", which is the mark of a leaked answer.
"""

from typing import Any

from numpy.random import Generator

from .language import LANGUAGES, listing, noun, say, some, the
from .questions import ASKABLE, Ask, ask
from .randomness import chance, pick, shuffled
from .world import COLOURS, SHAPES, SIZES, Scene

Exchange = tuple[str, str, dict[str, Any]]  # question, answer, {"kind", "value", "about"}


def any_ask(scene: Scene, lang: str, rng: Generator) -> Ask:
    """An unambiguous question of some kind about the scene."""
    while True:
        made = ask(scene, pick(rng, ASKABLE[scene.kind]), lang, rng)
        if made is not None:
            return made


def write_question(scene: Scene, lang: str, rng: Generator) -> Exchange:
    """The user names a kind of question; the assistant writes one that the picture answers."""
    made = any_ask(scene, lang, rng)
    prompt = say(lang, "write.q", rng, kind=LANGUAGES[lang].KIND_NAMES[made.kind])
    about = {"asked_kind": made.kind, "answer": made.value, "answer_about": made.about}
    return prompt, made.question, {"kind": "write_question", "value": made.question, "about": about}


def _beside_the_point(scene: Scene, lang: str, rng: Generator) -> tuple[str, str]:
    """A question about something the picture doesn't show, and its kind."""
    if scene.kind == "shapes" and chance(rng, 0.65):
        absent_colours = [c for c in COLOURS if all(t.colour != c for t in scene.things)]
        absent_shapes = [s for s in SHAPES if all(t.shape != s for t in scene.things)]
        if absent_colours and (not absent_shapes or chance(rng, 0.5)):
            it = noun(lang, colour=pick(rng, absent_colours))
            kind = pick(rng, ("shape", "size"))
        elif absent_shapes:
            it = noun(lang, shape=pick(rng, absent_shapes))
            kind = pick(rng, ("colour", "size"))
        else:
            return say(lang, "text.q", rng), "read_text"
        return say(lang, f"{kind}.q", rng, it=the(lang, it)), kind
    if scene.kind != "shapes" and chance(rng, 0.65):
        it = the(lang, noun(lang, shape=pick(rng, ("star", "circle", "triangle"))))
        kind = pick(rng, ("colour", "size"))
        return say(lang, f"{kind}.q", rng, it=it), kind
    if scene.kind == "shapes" and chance(rng, 0.5):
        return say(lang, "text.q", rng), "read_text"
    if scene.kind == "chart":
        return say(lang, "text_length.q", rng), "read_text"
    return say(lang, pick(rng, ("chart_largest.q", "chart_smallest.q", "chart_bars.q")), rng), "chart"


def judge_relevance(scene: Scene, lang: str, rng: Generator) -> Exchange:
    """Yes where the question is about something the picture shows, no where it isn't; half of each."""
    relevant = chance(rng, 0.5)
    if relevant:
        made = any_ask(scene, lang, rng)
        while made.value in (0, False) and made.kind in ("count", "exists"):
            made = any_ask(scene, lang, rng)
        question, kind = made.question, made.kind
    else:
        question, kind = _beside_the_point(scene, lang, rng)
    return (
        say(lang, "relevant.q", rng, question=question),
        say(lang, "relevant.yes" if relevant else "relevant.no", rng),
        {"kind": "judge_relevance", "value": relevant, "about": {"question": question, "asked_kind": kind}},
    )


def judge_answer(scene: Scene, lang: str, rng: Generator) -> Exchange:
    """A question with a reply that is right half of the time, and the verdict."""
    made, right = any_ask(scene, lang, rng), chance(rng, 0.5)
    said = made.value if right else pick(rng, made.others)
    reply = made.full(said)
    about = {
        "question": made.question,
        "asked_kind": made.kind,
        "asked_about": made.about,
        "reply": reply,
        "said": said,
        "right": made.value,
    }
    return (
        say(lang, "judge.q", rng, question=made.question, reply=reply),
        say(lang, "judge.right" if right else "judge.wrong", rng),
        {"kind": "judge_answer", "value": right, "about": about},
    )


def score(right: int, wrong: int, missing: int) -> int:
    """The score from 1 to 10 of a reply that was to state right + wrong + missing facts.

    10 if every fact is right, 1 if none is. Otherwise 1 + 9 * (right - wrong / 2) / facts, rounded half up,
    within 2 to 9: a wrong fact costs half a fact more than a missing one.
    """
    facts = right + wrong + missing
    if right == facts:
        return 10
    if right == 0:
        return 1
    return min(9, max(2, 1 + (9 * (2 * right - wrong) + facts) // (2 * facts)))


def _description(
    scene: Scene, lang: str, rng: Generator
) -> tuple[str, dict[str, int], list[dict[str, str | None]]]:
    """A reply that describes each object, in part wrongly or not; the tally; what was said.

    Each object has three facts: size, colour, shape. An attribute left out counts as missing.
    """
    odds = pick(rng, ((1.0, 0.0), (0.75, 0.15), (0.6, 0.25), (0.45, 0.35), (0.0, 0.85)))  # of right, of wrong
    tally = {"right": 0, "wrong": 0, "missing": 0}
    said: list[dict[str, str | None]] = []
    for thing in scene.things:
        words: dict[str, str | None] = {}
        for part, known in (("size", tuple(SIZES)), ("colour", tuple(COLOURS)), ("shape", SHAPES)):
            point, true = rng.random(), getattr(thing, part)
            if point < odds[0]:
                words[part], outcome = true, "right"
            elif point < sum(odds):
                words[part], outcome = pick(rng, [v for v in known if v != true]), "wrong"
            else:
                words[part], outcome = None, "missing"
            tally[outcome] += 1
        said.append(words)
    phrases = [some(lang, noun(lang, words["size"], words["colour"], words["shape"])) for words in said]
    return say(lang, "describe.a", rng, things=listing(lang, phrases)), tally, said


def score_answer(scene: Scene, lang: str, rng: Generator) -> Exchange:
    """A question with a reply and its score by `score`: three facts an object in descriptions, else one."""
    about: dict[str, Any]
    if scene.kind == "shapes" and chance(rng, 0.75):
        question, kind = say(lang, "describe.q", rng), "describe"
        reply, tally, said = _description(scene, lang, rng)
        about = {"said": said}
    else:
        made, right = any_ask(scene, lang, rng), chance(rng, 0.5)
        value = made.value if right else shuffled(rng, made.others)[0]
        question, kind, reply = made.question, made.kind, made.full(value)
        tally = {"right": int(right), "wrong": int(not right), "missing": 0}
        about = {"said": value, "right": made.value, "asked_about": made.about}
    points = score(**tally)
    about = {"question": question, "asked_kind": kind, "reply": reply, "facts": tally, **about}
    prompt = say(lang, "score.q", rng, question=question, reply=reply)
    return prompt, str(points), {"kind": "score_answer", "value": points, "about": about}
