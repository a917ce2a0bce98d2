"""How sure a share is that was counted on a sample: the exact interval of Clopper and Pearson."""

import math

_TAIL = 0.025  # the probability beyond each end of a 95 % interval
_STEPS = 60  # of bisection: the ends are known to 2**-60


def share(found: int, of: int) -> tuple[float, float]:
    """The 95 % interval (low, high) of the probability behind `found` successes in `of` independent trials.

    With no trials nothing is known: (0, 1). Raises ValueError unless 0 <= found <= of. Source: Clopper and
    Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
    """
    if not 0 <= found <= of:
        raise ValueError(f"found {found} of {of}: it must lie between 0 and {of}")
    low = _quantile(_TAIL, found, of - found + 1) if found else 0.0
    high = _quantile(1 - _TAIL, found + 1, of - found) if found < of else 1.0
    return low, high


def _quantile(probability: float, a: int, b: int) -> float:
    """The x at which the beta distribution's cumulative probability is the one given."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _cumulative(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _cumulative(x: float, a: int, b: int) -> float:
    """The regularised incomplete beta function I_x(a, b), for 0 < x < 1 and a, b of at least 1."""
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x * (a + b + 2) < a + 1:
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: int, b: int) -> float:
    """The continued fraction of I_x(a, b), DLMF 8.17.22, by the method of Lentz."""
    value = 1 / (1 - (a + b) * x / (a + 1))
    upper, lower = 1.0, value
    step, m = 0.0, 0
    while abs(step - 1) > 1e-15:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        upper, lower = 1 + even / upper, 1 / (1 + even * lower)
        value *= upper * lower
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        upper, lower = 1 + odd / upper, 1 / (1 + odd * lower)
        step = upper * lower
        value *= step
    return value
