"""Phrases that betray a text: refusals and boilerplate, in English and Chinese.

A refusal is looked for where it stands: at the beginning of one of the first sentences of an answer, in the
first person; "a man who cannot see" and "No, I cannot see a dog." are answers.
"""

import re

from pipelines.measures import chinese_phrases as chinese
from pipelines.measures import english_phrases as english

HEAD = 400  # characters of an answer in which a refusal is looked for
SENTENCES = 4  # of the head
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n\s*\n\s*")


_REFUSAL_EN, _REFUSAL_ZH = (
    re.compile(f"{language.LEAD}(?:{'|'.join(language.REFUSALS)})") for language in (english, chinese)
)
_BOILERPLATE_EN, _BOILERPLATE_ALL = (
    [(cue, re.compile(pattern)) for cue, pattern in phrases]
    for phrases in (english.BOILERPLATE, (*english.BOILERPLATE, *chinese.BOILERPLATE))
)


def refusal_in(answer: str) -> str | None:
    """The words with which an answer declines to answer, or None."""
    head = answer[:HEAD].lower().strip()
    if head.isascii():
        patterns = [_REFUSAL_EN]
    else:
        head = _folded(head)
        patterns = [_REFUSAL_EN, _REFUSAL_ZH]
    for sentence in _SENTENCE_END.split(head, maxsplit=SENTENCES)[:SENTENCES]:
        sentence = sentence.replace("\n", " ")
        for pattern in patterns:
            if match := pattern.match(sentence):
                return _shown(match)
    return None


def boilerplate_in(text: str) -> str | None:
    """The words of a text that come from a template, a web page's frame or a model's habit, or None.

    Where there are several, the first kind of the lists, English first.
    """
    text = text.lower().replace("\n", " ")
    kinds = _BOILERPLATE_EN
    if not text.isascii():
        text = _folded(text)
        kinds = _BOILERPLATE_ALL
    for cue, pattern in kinds:
        if cue in text and (match := pattern.search(text)):
            return _shown(match)
    return None


def _folded(text: str) -> str:
    return text.translate(chinese.FOLD).replace("’", "'")


def _shown(match: re.Match[str]) -> str:
    """What a pattern matched, on one line, at most 80 characters."""
    return " ".join(match.group().split())[:80].strip()
