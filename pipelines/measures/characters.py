"""Classes of characters, and words, for text in any script; English and Chinese first.

A word is a run of letters and digits, with apostrophes inside it, or one character of a script that is
written without spaces (Han, kana). All of it takes time linear in the length of the text.
"""

import re
import unicodedata
from functools import cache

from infinity_mm.scripts import HAN, KANA

_LETTER = rf"[^\W_{HAN}{KANA}]"
_WORD = re.compile(rf"[{HAN}{KANA}]|{_LETTER}+(?:['’]{_LETTER}+)*")
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*")
_ASCII_SPECIAL = re.compile(r"[^A-Za-z0-9\s]+")
_DIGITS = re.compile(r"\d+")


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)


def visible_count(text: str) -> int:
    """How many characters are not white space."""
    return sum(map(len, text.split()))


def special_count(text: str) -> int:
    """How many visible characters are neither letters nor digits of any script nor marks on them."""
    if text.isascii():
        return sum(map(len, _ASCII_SPECIAL.findall(text)))
    return sum(map(len, _special().findall(text)))


def digit_count(text: str) -> int:
    """How many characters are decimal digits of any script."""
    return sum(map(len, _DIGITS.findall(text)))


@cache
def _special() -> re.Pattern[str]:
    # \w has no combining marks, without which half of a Hindi or Thai text would be special
    marks = "".join(chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c))[0] == "M")
    return re.compile(rf"(?:[^\w\s{marks}\U000e0100-\U000e01ef]|_)+")
