"""What the text of a sample is like: lengths, characters, repetition, phrases, leaks.

Turns of every role count into `chars`, `words`, the ratios, boilerplate and URLs; questions are user turns
with text, answers assistant turns with text. Rejected turns are not measured here. Lengths are those of the
texts without the white space around them. Time grows linearly with the text.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import starmap
from typing import Any

import pyarrow as pa

from infinity_mm.sidecars import Family, Measure
from pipelines.measures.characters import digit_count, special_count, visible_count, words_of
from pipelines.measures.phrases import boilerplate_in, refusal_in
from pipelines.measures.sample_look import SampleLook
from pipelines.measures.turns import leak, repeated_turns, repetition, yes_or_no

_URL = re.compile(r"https?://[^\s<>\"'）)]+|\bwww\.[a-z0-9-]+\.[a-z]{2,}", re.IGNORECASE)


def text(look: SampleLook) -> Sequence[Any]:
    """The measures of TEXT."""
    questions, answers = look.questions, look.answers
    visible = visible_count(look.text)
    spoken = [(role, words_of(said.lower())) for role, said in look.turns]
    answered = [words for role, words in spoken if role == "assistant"]
    begins = [yes_or_no(answer) for answer in answers]
    yes, no = begins.count("yes"), begins.count("no")
    repeats = [share for words in answered if (share := repetition(words)) is not None]
    return (
        sum(map(len, questions)),
        sum(map(len, answers)),
        sum(len(said) for _, said in look.turns),
        sum(len(words) for _, words in spoken),
        sum(map(len, answered)),
        max((len(said) for _, said in look.turns), default=0),
        min(map(len, questions), default=None),
        min(map(len, answers), default=None),
        special_count(look.text) / visible if visible else None,
        digit_count(look.text) / visible if visible else None,
        max(repeats, default=None),
        repeated_turns(look),
        _first(map(refusal_in, answers)) if answers else None,
        boilerplate_in(look.text) or "none" if visible else None,
        _first(starmap(leak, look.exchanges)) if look.exchanges else None,
        len(_URL.findall(look.text)),
        yes,
        no,
        "yes" if answers and yes == len(answers) else "no" if answers and no == len(answers) else None,
    )


def _first(found: Iterable[str | None]) -> str:
    return next((each for each in found if each), "none")


GOPHER = "duplicate n-grams of Rae et al. 2021, Scaling Language Models (Gopher), appendix A"
TEXT = Family(
    "text",
    "samples",
    1,
    {
        "question_chars": Measure(pa.int64(), "characters", "length of all questions"),
        "answer_chars": Measure(pa.int64(), "characters", "length of all answers"),
        "chars": Measure(pa.int64(), "characters", "length of all turns of every role"),
        "words": Measure(
            pa.int64(), "words", "runs of letters or digits, and single Chinese characters, in all turns"
        ),
        "answer_words": Measure(pa.int64(), "words", "words of all answers"),
        "longest_turn": Measure(pa.int64(), "characters", "length of the longest turn of any role"),
        "shortest_question": Measure(
            pa.int64(),
            "characters",
            "length of the shortest question, without media",
            "the Infinity-MM release's check_list.py drops 5 and fewer",
        ),
        "shortest_answer": Measure(pa.int64(), "characters", "length of the shortest answer"),
        "special_ratio": Measure(pa.float64(), "share", "visible characters that are no letters or digits"),
        "digit_ratio": Measure(pa.float64(), "share", "visible characters that are digits"),
        "repetition": Measure(
            pa.float64(),
            "share",
            "5-grams of words (or Chinese characters) of the worst answer that it had before",
            GOPHER,
        ),
        "duplicate_turns": Measure(
            pa.int32(), "turns", "turns that say what an earlier one of that role said"
        ),
        "refusal": Measure(pa.string(), "", "the words with which an answer declines to answer, or none"),
        "boilerplate": Measure(pa.string(), "", "words of a template or a web page's frame, or none"),
        "answer_leaked": Measure(
            pa.string(),
            "",
            "the part of a question that states its answer, or none",
            "the Infinity-MM release's check_list.py: Answer: in a question",
        ),
        "urls": Measure(pa.int32(), "links", "web addresses in all turns"),
        "yes_answers": Measure(pa.int32(), "turns", "answers that begin with a yes"),
        "no_answers": Measure(pa.int32(), "turns", "answers that begin with a no"),
        "yes_no": Measure(pa.string(), "", "yes or no, where every answer begins so"),
    },
    lambda settings: text,
)
