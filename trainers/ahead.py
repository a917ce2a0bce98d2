"""An iterator run ahead of who asks for it, by a thread."""

import contextlib
from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
WAIT = 0.1  # seconds until a thread that waits looks whether it is still wanted


def ahead(source: Generator[Item], items: int = 1) -> Iterator[Item]:
    """What `source` yields, up to `items` made before they are asked for. What it raises is raised here, in
    its turn; when this ends or is closed, it is closed too, by the thread that ran it."""
    made: Queue[tuple[Item | None, BaseException | None]] = Queue(items)
    unwanted = Event()

    def put(item: Item | None, error: BaseException | None) -> None:
        while not unwanted.is_set():
            with contextlib.suppress(Full):
                return made.put((item, error), timeout=WAIT)

    def run() -> None:
        error: BaseException | None = None
        try:
            with contextlib.closing(source):
                for item in source:
                    put(item, None)
                    if unwanted.is_set():
                        return
        except BaseException as raised:  # it is the asker's
            error = raised
        put(None, error or StopIteration())

    thread = Thread(target=run, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # without an error it is one
    finally:
        unwanted.set()
        with contextlib.suppress(Empty):
            made.get_nowait()
        thread.join()
