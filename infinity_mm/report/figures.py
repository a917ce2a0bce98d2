"""Numbers as a reader wants them: thousands, shares, bytes, ticks of an axis."""

import math
from collections.abc import Sequence


def figure(value: str | int | float | bool) -> str:
    """A value: whole numbers whole with thousands separated, others to four digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if 1000 <= abs(value) < 1e15:
        return f"{value:,.1f}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:.4g}"


def signed(difference: int | float) -> str:
    """A difference with its sign; 0 has none."""
    if difference == 0:
        return "0"
    return ("+" if difference > 0 else "\u2212") + figure(abs(difference))


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def share(part: float, whole: float) -> str:
    """A part in per cent. Never 0 % of something nor 100 % of less than all; empty if there is no whole."""
    if whole <= 0:
        return ""
    percent = 100 * part / whole
    if part and percent < 0.1:
        return "< 0.1 %"
    if part < whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.1f} %" if 0 < percent < 100 else f"{percent:.0f} %"


def size(count: int) -> str:
    """Bytes, in decimal units."""
    value, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, bigger
    return f"{count:,} B" if unit == "B" else f"{value:.3g} {unit}"


def compact(value: float) -> str:
    """A tick's label: 1500 is 1.5k."""
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}"


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """About four round numbers between `low` and `high`; of `whole` numbers, whole ones."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return []
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10, 20) if span / (step * m) <= 5)
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between `low` and `high`, thinned to six; 1, 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(every) < 3:
        every = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    return every[:: math.ceil(len(every) / 6)] if every else []


def whole_numbers(edges: Sequence[float]) -> bool:
    """Whether edges lie at the halves, as those of whole numbers do."""
    return all((edge - 0.5).is_integer() for edge in map(float, edges))
