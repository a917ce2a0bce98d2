"""What a training draws for itself, drawn by a process of its own while the model learns."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

AHEAD = 8  # drawn and not asked for yet

Drawn = TypeVar("Drawn")


def drawn_ahead(draw: Callable[..., Drawn], given: Iterable[tuple[Any, ...]]) -> Iterator[Drawn]:
    """`draw(*arguments)` for each of the arguments, in their order."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        drawn: deque[Future[Drawn]] = deque()
        for arguments in given:
            drawn.append(pool.submit(draw, *arguments))
            if len(drawn) > AHEAD:
                yield drawn.popleft().result()
        while drawn:
            yield drawn.popleft().result()
