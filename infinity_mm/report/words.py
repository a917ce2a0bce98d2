"""Where two texts differ, in words: what one alone says and what the other alone says, with a little around.

Words are runs of letters and digits, single characters of scripts written without spaces, and single other
characters; white space is no difference. Time: linear in the texts, and quadratic in MOST.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from infinity_mm.report.model import Run
from infinity_mm.scripts import HAN, KANA, THAI_LAO_KHMER_BURMESE

AROUND = 8  # words shown before the first difference and after the last
MOST = 120  # words of either text that are compared, from the first difference on
FEW, ALIKE = 4, 0.3  # of more words than FEW that differ this share must be common, or nothing is marked
_SINGLE = HAN + KANA + THAI_LAO_KHMER_BURMESE
_WORD = re.compile(rf"(?:[{_SINGLE}]|[^\W{_SINGLE}]+|[^\w\s])\s*")
_CUT = "… "


def same_words(one: str, other: str) -> bool:
    """Whether two texts differ in nothing but white space."""
    return one == other or _keys(_words(one)) == _keys(_words(other))


def compared(one: str, other: str) -> list[Run]:
    """`one` as runs of what both say, what it alone says and what `other` alone says, around the first
    difference; "… " stands for words left out. Where they have everything or hardly anything in common, the
    beginning of `one` without marks.
    """
    here, there = _words(one), _words(other)
    keys, others = _keys(here), _keys(there)
    least = min(len(keys), len(others))
    first = next((i for i in range(least) if keys[i] != others[i]), least)
    if first == len(keys) == len(others):
        return _beginning(here)
    after = 0
    while after < least - first and keys[-1 - after] == others[-1 - after]:
        after += 1
    ends = len(keys) - after, len(others) - after  # what lies beyond is equal
    stops = min(ends[0], first + MOST), min(ends[1], first + MOST)
    start, end = max(0, first - AROUND), ends[0] + min(after, AROUND)
    middle = _differing(here[first : stops[0]], there[first : stops[1]])
    if middle is None:
        return _beginning(here)
    last = [Run(text="".join(here[ends[0] : end]) + _CUT * (end < len(here)))]
    return _joined(
        [
            Run(text=_CUT * (start > 0) + _equal(here[start:first], there[start:first])),
            *middle,
            *(last if stops == ends else [Run(text=_CUT)]),
        ]
    )


def _differing(here: Sequence[str], there: Sequence[str]) -> list[Run] | None:
    """What differs marked; None where marks would hide what is said."""
    matcher = SequenceMatcher(None, _keys(here), _keys(there), autojunk=False)
    runs, common = [], 0
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            runs.append(Run(text=_equal(here[a:b], there[c:d])))
            common += b - a
        else:
            runs += _changed("".join(there[c:d]), "".join(here[a:b]))
    least = min(len(here), len(there))
    return None if least > FEW and common < ALIKE * least else runs


def _equal(here: Sequence[str], there: Sequence[str]) -> str:
    """Equal words, apart where they are so in either text: what is struck out may follow."""
    return "".join(max(pair, key=len) for pair in zip(here, there, strict=True))


def _changed(lost: str, new: str) -> list[Run]:
    """Words in the place of others; the space behind them bears no mark."""
    left, right = lost.rstrip(), new.rstrip()
    space = new[len(right) :] or lost[len(left) :]
    return [Run(text=left, change=-1), Run(text=right, change=1), Run(text=space)]


def _beginning(words: Sequence[str]) -> list[Run]:
    return _joined([Run(text="".join(words[:MOST]) + _CUT * (len(words) > MOST))])


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _keys(words: Sequence[str]) -> list[str]:
    return [word.rstrip() for word in words]


def _joined(runs: Sequence[Run]) -> list[Run]:
    """Runs with a text, neighbours of one kind as one."""
    out: list[Run] = []
    for run in runs:
        if run.text and out and out[-1].change == run.change:
            out[-1] = Run(text=out[-1].text + run.text, change=run.change)
        elif run.text:
            out.append(run)
    return out
