"""What the turns of a conversation say of one another: repeats, leaks, and answers of yes or no."""

import re
from collections.abc import Sequence

from pipelines.measures.characters import words_of
from pipelines.measures.sample_look import SampleLook

NGRAM = 5  # words, or characters of Chinese
LONG_ANSWER = 5  # words: shorter answers (Yes. Two red ones.) may well be given twice
QUOTED = 5  # words that an answer must have for its being quoted in the question to count
QUOTED_SHARE = 0.2  # of the question that such an answer must make up: an extract of a page is no leak
SHOWN = 80  # characters of a leak that are shown
SHORT = 3  # characters: an answer no longer than this (Yes, B) may stand in an example, too
PLACEHOLDERS = ("<", "[", "{", "_", "(", "…")  # "Answer: <yours>" states none

# "Answer: red", "The answer is red", "答案：红色"; not 'write "Answer: X"'
_STATED = re.compile(
    r"""(?<!["'“‘`*])(?:\b(?:(?:the|correct|right|final) ){0,4}answer|(?:正确|标准|最终)?答案)"""
    r"(?:(?: is|是|为)?\s?(?P<colon>[:：])| is\b|[是为])\s*",
    re.IGNORECASE,
)
_ANSWER = re.compile("answer|答案", re.IGNORECASE)
_CHOICE = re.compile(r"\b(?:options?|choices?|or)\b|选项|選項|还是|還是", re.IGNORECASE)
_OPTION_A, _OPTION_B = (re.compile(rf"(?<![A-Za-z]){letter}[)）.．、:：]", re.IGNORECASE) for letter in "AB")
_YES = re.compile(r"(?:yes|yeah|yep|yup)\b(?!-)", re.IGNORECASE)
_NO = re.compile(
    r"(?:no|nope)(?:$|\s*[,;:!\n—–]|\s*\.(?!\s*\d)|\s+(?:it|there|he|she|they|this|that|the|i|we|you|these|those)\b)",
    re.IGNORECASE,
)
_END_ZH = r"(?:$|[\s,，.。!！;；、])"
_YES_ZH = re.compile(f"(?:是的?|对的?|對的?|有的?|可以|能|会|會|没错|沒錯|正确|正確|嗯){_END_ZH}")
_NO_ZH = re.compile(
    "(?:不是的?|不对|不對|没有|沒有|不|否|不能|不可以|不会|不會|不正确|不正確|错的?|錯的?|错误|錯誤)"
    f"{_END_ZH}"
)


def yes_or_no(answer: str) -> str | None:
    """Whether an answer begins with a yes or a no. "No people are visible." is a statement, not a no."""
    if answer.isascii():
        return "yes" if _YES.match(answer) else "no" if _NO.match(answer) else None
    if _YES.match(answer) or _YES_ZH.match(answer):
        return "yes"
    return "no" if _NO.match(answer) or _NO_ZH.match(answer) else None


def repetition(words: Sequence[str]) -> float | None:
    """The share of a text's NGRAM-grams that stood in it before; None for fewer than NGRAM words."""
    count = len(words) - NGRAM + 1
    if count < 1:
        return None
    different = len(set(zip(*(words[i:] for i in range(NGRAM)), strict=False)))
    return 1 - different / count


def repeated_turns(look: SampleLook) -> int:
    """How many turns say what an earlier turn of the same role said, case and white space aside.

    Turns that show other media, turns without text, and answers below LONG_ANSWER words are no repeats.
    """
    seen: set[tuple[str, str, tuple[int | None, ...]]] = set()
    repeats = 0
    for turn, (role, text) in zip(look.sample.turns, look.turns, strict=True):
        if not text:
            continue
        shown = tuple([p.media for p in turn.parts if p.type != "text"])
        key = (role, " ".join(text.lower().split()), shown)
        if key not in seen:
            seen.add(key)
        elif role != "assistant" or len(words_of(text)) >= LONG_ANSWER:
            repeats += 1
    return repeats


def leak(question: str, answer: str) -> str | None:
    """The part of a question that gives its answer away, or None.

    That is an answer stated as such ("Answer: red"), if it ends the question or is the answer given; or the
    answer given, word for word, where it is long enough to be no chance, no option and no extract of a text.
    """
    given = _plain(answer)
    if not given:
        return None
    return _stated(question, given) or _quoted(question, answer, given)


def _stated(question: str, given: str) -> str | None:
    found = list(_STATED.finditer(question)) if _ANSWER.search(question) else []
    if not found:
        return None
    match = ([each for each in found if each["colon"]] or found)[-1]  # those before it are examples
    line, _, later = question[match.end() :].strip().partition("\n")
    plain = _plain(line)
    if not plain or line.startswith(PLACEHOLDERS) or (plain != given and _offers(line)):
        return None
    same = f"{plain} ".startswith(f"{given} ")
    if (match["colon"] and not later) or (same and (not later or len(given) > SHORT)):
        return _shown(match.group() + line)
    return None


def _quoted(question: str, answer: str, given: str) -> str | None:
    if given.count(" ") + 1 < QUOTED or given not in (plain := _plain(question)) or _offers(question):
        return None
    return _shown(answer) if len(given) >= QUOTED_SHARE * len(plain) else None


def _offers(question: str) -> bool:
    """Whether a question lists what may be answered: this or that, A. … B. …, options."""
    if _CHOICE.search(question):
        return True
    first = _OPTION_A.search(question)
    return first is not None and _OPTION_B.search(question, first.end()) is not None


def _shown(text: str) -> str:
    return " ".join(text.split())[:SHOWN]


def _plain(text: str) -> str:
    """Words alone, one space between them, lower case."""
    return " ".join(words_of(text.lower()))
