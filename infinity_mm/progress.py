"""Progress on stderr: one moving line on a terminal, a plain line every ten seconds elsewhere.

Costs one clock reading an `advance`, whatever the total.
"""

import shutil
import sys
import time
from typing import TextIO

DRAW_EVERY = 0.1
PRINT_EVERY = 10.0
BAR_WIDTH = 20


class Progress:
    """Counts the work of one stage at a time: `start`, any number of `advance`, `done`."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._open = False

    def start(self, label: str, total: int | None = None, unit: str = "items") -> None:
        """Begin counting; `total` is None where it is not known. Work still open is ended first."""
        self.done()
        self._label, self._total, self._unit = label, total, unit
        self._count = 0
        self._notes: dict[str, object] = {}
        self._began = self._wrote = time.monotonic()
        self._open = True
        if self._terminal:
            self._draw()

    def advance(self, n: int = 1, **notes: object) -> None:
        """Count `n` more; each note is shown with its latest value, such as `dropped=12`."""
        assert self._open, "advance() before start()"
        self._count += n
        self._notes.update(notes)
        now = time.monotonic()
        if now - self._wrote >= (DRAW_EVERY if self._terminal else PRINT_EVERY):
            self._wrote = now
            self._draw()

    def done(self) -> None:
        """End the line, showing what was reached. Without work open it does nothing."""
        if self._open:
            self._open = False
            self._draw(last=True)

    def _draw(self, last: bool = False) -> None:
        if self.quiet:
            return
        line = self._line(last)
        if self._terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r\x1b[2K{line}" + "\n" * last)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _line(self, last: bool) -> str:
        seconds = time.monotonic() - self._began
        rate = self._count / seconds if seconds > 0 else 0.0
        parts = [f"{self._label}:"]
        if self._total is None:
            parts.append(f"{self._count:,} {self._unit}")
        else:
            share = min(self._count / self._total, 1.0) if self._total else 1.0
            if self._terminal:
                filled = int(share * BAR_WIDTH)
                parts.append("[" + "#" * filled + "." * (BAR_WIDTH - filled) + "]")
            parts.append(f"{self._count:,}/{self._total:,} {self._unit}, {share:.0%}")
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:,.1f}/s")
        if last:
            parts.append(f"in {_clock(seconds)}")
        elif self._total and rate > 0:
            parts.append(f"{_clock((self._total - self._count) / rate)} left")
        parts += [f"{name} {_number(value)}" for name, value in self._notes.items()]
        return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
