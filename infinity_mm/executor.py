"""The map half of a stage, and the local executor that runs it.

A step is `open(config) -> work`, and `work(unit, guard) -> result`: `open` runs once a worker (a model is
loaded there), `work` once a unit. Both are module-level functions and config, units and results are plain
picklable values, so that another executor (Ray) can run the same step. A unit's output is a file that the
work publishes; the result is only what the decide step needs to know at once. Results come back in unit
order whatever the number of workers.

A worker that dies (out of memory, a decoder that crashes) is replaced and its unit done again. Work that
announces its items through `guard(i)` loses at most one: an item at which workers died three times is refused
(`guard` returns False) and becomes a ledger row. Memory: one unit a worker.
"""

import contextlib
import multiprocessing as mp
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

CRASHES_OF_AN_ITEM = 3
CRASHES_OF_A_UNIT = 3


class WorkerDied(RuntimeError):
    """A worker died again and again on one unit, outside any single item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one worker wants: cores, GPUs, bytes of memory."""

    cpus: float = 1
    gpus: float = 0
    memory: int = 1 << 30


class Guard:
    """Called with an item's number before it is worked on; False if it has killed workers before.

    `done()` when the item is: a crash after that is the unit's, not the item's.
    """

    def __init__(self, skip: frozenset[int] = frozenset(), place: Any = None) -> None:
        self._skip = skip
        self._place = place

    def __call__(self, item: int) -> bool:
        if item in self._skip:
            return False
        if self._place is not None:
            self._place.value = item
        return True

    def done(self) -> None:
        if self._place is not None:
            self._place.value = -1


Work = Callable[[Any, Guard], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The map half of a stage. `open` must be importable by name."""

    name: str
    open: Callable[[Any], Work]
    config: Any
    resources: Resources = Resources()


class Report(Protocol):
    """What the executor tells of its progress; `infinity_mm.progress.Progress` is one."""

    def start(self, label: str, total: int | None, unit: str) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def done(self) -> None: ...


class Silent:
    """A report nobody reads."""

    def start(self, label: str, total: int | None, unit: str) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def done(self) -> None: ...


def run(
    step: Step,
    units: Iterable[Any],
    *,
    workers: int,
    report: Report | None = None,
    each: Callable[[int, Any], None] | None = None,
) -> list[Any]:
    """Work on every unit; the results in unit order. `workers` 0 works in this process.

    With `each`, a result is given to it with its unit's number, as it arrives and in any order, and is not
    kept: the list then holds None. Raises what the work raised, with the worker's traceback as its cause, or
    WorkerDied.
    """
    units = list(units)
    if not units:
        return []
    report = report or Silent()
    report.start(step.name, len(units), "units")
    try:
        if workers == 0:
            results = []
            work = step.open(step.config)
            for number, unit in enumerate(units):
                results.append(_handed(each, number, work(unit, Guard())))
                report.advance()
            return results
        return _Pool(step, units, min(workers, len(units)), report, each).run()
    finally:
        report.done()


# A worker is one core's: threads of its numpy would only fight the other workers for theirs. And glibc is to
# keep the pages of a freed picture for the next one, instead of asking the kernel for new ones each time.
WORKER_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 27),
}


def _handed(each: Callable[[int, Any], None] | None, number: int, result: Any) -> Any:
    """A result to keep: None where somebody takes it as it arrives."""
    if each is None:
        return result
    each(number, result)
    return None


def _context(step: Step) -> Any:
    """Workers are forked from a server that has imported what the step needs and has no threads yet."""
    context = mp.get_context("forkserver")
    # pyarrow imports pandas, where that is installed, with its first array: once here, not once a worker.
    context.set_forkserver_preload([step.open.__module__, "pandas"])
    missing = {k: v for k, v in WORKER_ENVIRONMENT.items() if k not in os.environ}
    os.environ.update(missing)
    try:
        forkserver.ensure_running()  # it reads the environment as it starts, before it imports numpy
    finally:
        for name in missing:
            del os.environ[name]
    return context


class _Worker:
    def __init__(self, step: Step) -> None:
        context = _context(step)
        self.place = context.RawValue("q", -1)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(step, theirs, self.place), daemon=True)
        self.process.start()
        theirs.close()
        self.unit: int | None = None

    def give(self, number: int, unit: Any, skip: frozenset[int]) -> None:
        self.unit = number
        self.place.value = -1
        with contextlib.suppress(OSError):  # a dead worker is found by its closed pipe
            self.pipe.send((unit, skip))

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


class _Pool:
    def __init__(
        self,
        step: Step,
        units: Sequence[Any],
        workers: int,
        report: Report,
        each: Callable[[int, Any], None] | None,
    ) -> None:
        self.step, self.units, self.report, self.each = step, units, report, each
        self.todo = list(range(len(units)))[::-1]
        self.results: dict[int, Any] = {}
        self.crashes: Counter[tuple[int, int]] = Counter()
        self.skip: dict[int, frozenset[int]] = {}
        self.workers = [_Worker(step) for _ in range(workers)]

    def run(self) -> list[Any]:
        try:
            for worker in self.workers:
                self._next(worker)
            while len(self.results) < len(self.units):
                ready = wait([w.pipe for w in self.workers if w.unit is not None])
                for worker in [w for w in self.workers if w.pipe in ready]:
                    self._hear(worker)
            return [self.results[i] for i in range(len(self.units))]
        finally:
            for worker in self.workers:
                worker.stop()

    def _next(self, worker: _Worker) -> None:
        worker.unit = None
        if self.todo:
            number = self.todo.pop()
            worker.give(number, self.units[number], self.skip.get(number, frozenset()))

    def _hear(self, worker: _Worker) -> None:
        number = worker.unit
        assert number is not None
        try:
            error, value = worker.pipe.recv()
        except (EOFError, OSError):
            self._died(worker, number)
            return
        if error is not None:
            raise value from RuntimeError(f"in a worker of {self.step.name}:\n{error}")
        self._next(worker)
        self.results[number] = _handed(self.each, number, value)
        self.report.advance()

    def _died(self, worker: _Worker, number: int) -> None:
        item = worker.place.value
        worker.stop()
        self.crashes[number, item] += 1
        if item >= 0 and self.crashes[number, item] >= CRASHES_OF_AN_ITEM:
            self.skip[number] = self.skip.get(number, frozenset()) | {item}
        if item < 0 and self.crashes[number, item] >= CRASHES_OF_A_UNIT:
            raise WorkerDied(
                f"{self.step.name}: a worker died {CRASHES_OF_A_UNIT} times on unit {number} "
                f"(exit code {worker.process.exitcode}): is there enough memory? Finished units are kept."
            )
        self.todo.append(number)
        self.workers[self.workers.index(worker)] = fresh = _Worker(self.step)
        self._next(fresh)


def _serve(step: Step, pipe: Connection, place: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    work: Work | None = None
    while True:
        try:
            unit, skip = pipe.recv()
        except EOFError:
            return
        try:
            work = work or step.open(step.config)
            answer: tuple[str | None, Any] = (None, work(unit, Guard(skip, place)))
        except Exception as error:
            answer = (traceback.format_exc(), error)
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return
        except Exception as error:
            pipe.send((traceback.format_exc(), RuntimeError(f"result of {step.name}: {error}")))


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
