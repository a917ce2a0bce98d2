"""What a person sees of a training run: one line a step in `record.jsonl`, and views of it.

The record is only ever added to: a line is a step, or an event such as `resume`, after which earlier lines of
later steps are void (`read_record` leaves them out). TensorBoard files, where its package is installed, and
the line of progress on stderr show the same numbers. Only the first rank writes; of samples that were left
out each rank writes its own, to `skipped.rank0.jsonl`.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import torch

from infinity_mm.progress import Progress
from trainers.batch import Pack
from trainers.parallel import World

RECORD = "record.jsonl"


Item = TypeVar("Item")


class Cost(NamedTuple):
    """Floating-point operations of one rank's packs, and those of them in the vision tower."""

    total: int
    vision: int


class Numbers(NamedTuple):
    """The numbers of one step, over all ranks."""

    loss: float  # a supervised token's, the mean by weight; 0 where there is none
    by_source: tuple[float | None, ...]  # the same of each source; None where it has none
    tokens_by_source: tuple[int, ...]  # supervised ones
    norm: float  # of the gradient, before it is clipped
    rates: Mapping[str, float]
    supervised: int
    skipped: int

    @classmethod
    def of(
        cls, sums: torch.Tensor, norm: torch.Tensor, rates: Mapping[str, float], supervised: int, skipped: int
    ) -> "Numbers":
        """From [sources, 3] sums of weighted losses, weights and counts. Waits for the device."""
        losses, weights, counts = sums.cpu().unbind(1)
        pairs = zip(losses.tolist(), weights.tolist(), strict=True)
        by_source = tuple(loss / weight if weight else None for loss, weight in pairs)
        loss = float(losses.sum()) / (float(weights.sum()) or 1.0)
        return cls(loss, by_source, tuple(counts.long().tolist()), float(norm), rates, supervised, skipped)

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Monitor:
    """Watches one stage in `folder`, from a step on."""

    def __init__(
        self,
        folder: Path,
        world: World,
        *,
        steps: int,
        step: int,
        sources: Sequence[str],
        cost: Callable[[Pack], Cost],
        peak: float | None,
        label: str,
        progress: Progress | None = None,
    ) -> None:
        self.world, self.steps, self.sources, self.cost, self.peak = world, steps, sources, cost, peak
        self.record = folder / RECORD
        self.progress = Progress(quiet=not world.first) if progress is None else progress
        self._skipped = folder / f"skipped.rank{world.rank}.jsonl"
        self._file: IO[str] | None = None
        self._board: Any = None
        if world.first:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.record.open("a", encoding="utf-8")
            self._board = _board(folder, step)
        self._began = self._last = time.monotonic()
        self._waited = 0.0
        self.progress.start(label, steps - step, "steps")

    def timed(self, work: Iterator[Item]) -> Iterator[Item]:
        """The same items, the time that each was waited for counted."""
        while True:
            asked = time.monotonic()
            try:
                item = next(work)
            except StopIteration:
                return
            self._waited = time.monotonic() - asked
            yield item

    def step(
        self,
        step: int,
        cursor: int,
        packs: Sequence[Pack],
        skipped: Sequence[Mapping[str, Any]],
        numbers: Numbers,
    ) -> None:
        """Record a step that was taken, with this rank's packs and rows of what it could not read.
        Sums over the ranks: all must call it."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        costs = [self.cost(pack) for pack in packs]
        mine = [
            sum(len(p.tokens_T) for p in packs),
            sum(len(p.tiles_N) for p in packs),
            sum(len(p.starts_D) - 1 for p in packs),
            sum(c.total for c in costs),
            sum(c.vision for c in costs),
            self._waited,
        ]
        sums = self.world.sum(torch.tensor(mine, dtype=torch.float64)).tolist()
        tokens, tiles, documents, total, vision, waited = sums
        line = {
            "step": step,
            "cursor": cursor,
            "loss": numbers.loss,
            "loss_by_source": self.named(numbers.by_source),
            "supervised_by_source": self.named(numbers.tokens_by_source),
            "lr": dict(numbers.rates),
            "gradient_norm": numbers.norm,
            "documents": int(documents),
            "tokens": int(tokens),
            "supervised": numbers.supervised,
            "tiles": int(tiles),
            "skipped": numbers.skipped,
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "supervised_per_second": numbers.supervised / seconds,
            "data_wait": waited / self.world.size / seconds,
            "flops": total,
            **self._memory(),
        }
        if self.peak:
            highest = self.peak * self.world.size * seconds
            line |= {"mfu": total / highest, "mfu_without_vision": (total - vision) / highest}
        self._write(line)
        self._show(step, line)
        if skipped:
            with self._skipped.open("a", encoding="utf-8") as file:
                file.writelines(_line({"step": step, **row}) for row in skipped)

    def event(self, name: str, step: int, **more: Any) -> None:
        """Record something that is no step."""
        self._write({"event": name, "step": step, "time": time.time(), **more})

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values by source, those that have one."""
        return {name: value for name, value in zip(self.sources, values, strict=True) if value is not None}

    def close(self) -> None:
        self.progress.done()
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()

    def _memory(self) -> dict[str, int]:
        if self.world.device.type != "cuda":
            return {}
        return {"peak_memory": torch.cuda.max_memory_allocated(self.world.device)}

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file:
            self._file.write(_line(line))
            self._file.flush()

    def _show(self, step: int, line: Mapping[str, Any]) -> None:
        notes = {"loss": f"{line['loss']:.4f}", "tokens/s": f"{line['tokens_per_second']:,.0f}"}
        notes["supervised/s"] = f"{line['supervised_per_second']:,.0f}"
        notes["waiting"] = f"{line['data_wait']:.0%}"
        if "mfu" in line:
            notes["MFU"] = f"{line['mfu']:.0%}"
        self.progress.advance(1, **notes)
        if self._board:
            for name, value in _scalars(line):
                self._board.add_scalar(name, value, step)


def read_record(path: Path) -> list[dict[str, Any]]:
    """The line of each step that led to where the run is, in order; events and voided steps left out."""
    found: dict[int, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not text.endswith("\n"):
            break  # cut by a kill while it was written
        line = json.loads(text)
        if "event" not in line:
            found[line["step"]] = line
        elif line["event"] == "resume":
            found = {step: one for step, one in found.items() if step <= line["step"]}
    return [found[step] for step in sorted(found)]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", number) for key, number in value.items())
        elif name not in ("step", "cursor"):
            yield name, value


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, which hides what an earlier run showed after `step`; None without its package."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard", purge_step=step + 1)
