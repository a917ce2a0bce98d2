"""Plain tables for a terminal."""

from collections.abc import Container, Sequence
from typing import Any


def columns(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Rows as lines with aligned columns, those numbered in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if i in right else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def number(value: Any) -> str:
    """A number in few characters."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
