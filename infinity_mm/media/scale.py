"""By how much a picture may be made smaller: always by powers of two, which decoders do fast and alike."""


def halvings(width: int, height: int, min_side: int | None) -> int:
    """The largest power of two that leaves the shorter side at `min_side` pixels or more; 1 for None."""
    factor = 1
    while min_side and min(width, height) >= 2 * factor * min_side:
        factor *= 2
    return factor
