"""Reading what a model wrote: whether it is a text to keep, what score it gives, whether two answers agree.

Each check gives the reason a text is refused for, or None. They judge form alone, in English and Chinese.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher

from infinity_mm.engines.base import Reply, Token

CHINESE = re.compile(r"[\u3400-\u9fff]")
LETTER = re.compile(r"[^\W\d_]")
WORD = re.compile(r"[\u3400-\u9fff]|\w+")
ARTICLES = frozenset(("a", "an", "the"))
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {name: str(number) for number, name in enumerate(NUMBERS)} | {
    name: str(number) for number, name in enumerate("零一二三四五六七八九十")
}
# Words that a question has whatever it asks; directions, numbers and negations are none of them.
PLAIN = frozenset(
    [
        *(
            "what",
            "which",
            "who",
            "where",
            "how",
            "is",
            "are",
            "was",
            "were",
            "do",
            "does",
            "did",
            "can",
            "could",
        ),
        *("you", "see", "tell", "me", "of", "in", "it", "this", "that", "there", "here", "picture", "image"),
        *("photo", "photograph", "shown", "show", "shows", "have", "has", "please"),
        *"的是有了吗呢什么请图中里这张片哪种你能看到出",
    ]
)
RUN = 4  # times that words come one after another before it is a repetition
TOP_SCORE = 10


def refused(reply: Reply, lang: str, prompt: str) -> str | None:
    """Why a reply is no text to keep: cut off, endless, the prompt again, another language."""
    if repeats(reply.text):
        return "repetition"
    if reply.finish == "length":
        return "cut_off"
    if is_echo(reply.text, prompt):
        return "echo"
    if language_of(reply.text) not in (None, lang):
        return "other_language"
    return None


def not_a_question(text: str) -> str | None:
    """Why a text is no question: several lines, or too short or long to be one."""
    if "\n" in text.strip():
        return "several_lines"
    if not 2 <= len(words(text)) <= 100:
        return "no_question"
    return None


def repeats(text: str) -> bool:
    """Whether a run of 1 to 12 words comes RUN times in a row at its end, or most lines are the same."""
    said = WORD.findall(text)
    for length in range(1, 13):
        tail = said[-length * RUN :]
        if len(tail) == length * RUN and tail == tail[:length] * RUN and length * RUN > 5:
            return True
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return len(lines) >= 2 * RUN and len(set(lines)) <= len(lines) // 2


def is_echo(text: str, prompt: str) -> bool:
    """Whether a text is its prompt again, or begins with most of it."""
    said, asked = normalised(text), normalised(prompt)
    return len(asked) >= 12 and (said.startswith(asked[: max(12, len(asked) * 3 // 4)]) or said == asked)


def language_of(text: str) -> str | None:
    """zh, en or None (numbers, a name or two), by the share of Chinese among letters."""
    letters = LETTER.findall(text)
    if len(letters) < 2:
        return None
    share = sum(CHINESE.match(c) is not None for c in letters) / len(letters)
    if share >= 0.3:
        return "zh"
    return (
        "en"
        if share < 0.05 and sum(c.isascii() for c in letters) > 0.7 * len(letters) and len(letters) > 3
        else None
    )


def normalised(text: str) -> str:
    """A text without case, punctuation, articles and spare blanks; numbers up to ten in digits."""
    return " ".join(words(text))


def words(text: str) -> list[str]:
    """The same, word by word; a Chinese character is one."""
    found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [DIGITS.get(word, word) for word in found if word not in ARTICLES]


def agree(full: str, brief: str) -> bool:
    """Whether a full answer says what a brief one does: equal, or all of its words in a row."""
    whole, part = words(full), words(brief)
    if not part or not whole:
        return False
    if len(part) > len(whole):
        whole, part = part, whole
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


def near(one: str, other: str) -> float:
    """How alike two questions are, 0 to 1: twice the content words in runs that both have, over all of them.

    "What color is the car?" and "What is the color of the car?" are the same; a star above a cross is not a
    cross above a star.
    """
    mine, theirs = ([word for word in words(text) if word not in PLAIN] for text in (one, other))
    if not mine or not theirs:
        return float(words(one) == words(other))
    return SequenceMatcher(None, mine, theirs, autojunk=False).ratio()


def expected_score(reply: Reply) -> float | None:
    """A score from 1 to 10 as the expectation over the first token's probabilities, where they are told; else
    the number that the reply says. None where it says none.

    A "10" of two tokens shares its first with "1": where the reply is a 10 the first token's mass is split by
    the second's probability of "0", else it counts as 1.
    """
    if reply.tokens and reply.tokens[0].top:
        mass = _masses(reply.tokens)
        total = sum(mass.values())
        if total > 0.5:  # of what was said at all: less, and the reply does not begin with a score
            return sum(score * p for score, p in mass.items()) / total
    found = re.findall(r"\d+", reply.text)
    return float(found[0]) if found and 1 <= int(found[0]) <= TOP_SCORE else None


def _masses(tokens: Sequence[Token]) -> dict[int, float]:
    mass: dict[int, float] = {}
    for text, logprob in tokens[0].top:
        said = text.strip()
        if said.isascii() and said.isdigit() and 1 <= int(said) <= TOP_SCORE:
            mass[int(said)] = mass.get(int(said), 0.0) + math.exp(logprob)
    if 1 in mass and [t.text.strip() for t in tokens[:2]] == ["1", "0"] and len(tokens) > 1:
        tens = mass.pop(1)
        zero = sum(math.exp(p) for text, p in tokens[1].top if text.strip() == "0") or math.exp(
            tokens[1].logprob
        )
        mass[TOP_SCORE] = mass.get(TOP_SCORE, 0.0) + tens * zero
        mass[1] = tens * (1 - zero)
    return mass


def chance_of(reply: Reply, good: str, bad: str) -> float:
    """The probability of the choice `good` beside `bad`: by the first token in which they differ, where its
    probabilities are told, else 1 or 0 by what was chosen."""
    if reply.tokens:
        said = ""
        for token in reply.tokens:
            if good.startswith(said) and bad.startswith(said):
                mass = {choice: 0.0 for choice in (good, bad)}
                for text, logprob in token.top or ((token.text, token.logprob),):
                    fits = [
                        c
                        for c in (good, bad)
                        if c[len(said) :].lstrip().startswith(text.strip()) and text.strip()
                    ]
                    if len(fits) == 1:
                        mass[fits[0]] += math.exp(logprob)
                if sum(mass.values()) > 0:
                    return mass[good] / sum(mass.values())
            said += token.text
    return float(normalised(reply.text) == normalised(good))


def nearly_same(texts: Sequence[str], limit: float) -> list[tuple[int, float] | None]:
    """Of each text, in order: which earlier one that stays it is too near to, and how near; None for one that
    stays."""
    stays: list[int] = []
    found: list[tuple[int, float] | None] = []
    for number, text in enumerate(texts):
        close = ((other, near(texts[other], text)) for other in stays)
        best = max(close, key=lambda pair: pair[1], default=(-1, 0.0))
        found.append(best if best[1] >= limit else None)
        if found[-1] is None:
            stays.append(number)
    return found
