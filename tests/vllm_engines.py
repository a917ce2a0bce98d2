"""Asks engines where vLLM is: a script for the interpreter that has it.

    python vllm_engines.py REQUESTS.pickle ANSWERS.pickle

REQUESTS: (folder of a model, options of vLLM, requests, requests with a schema). ANSWERS: a dictionary of
what vLLM answered to both, what transformers answered to those with a schema, and how the job ended when
vLLM's process was killed.
"""

import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infinity_mm.engines.base import Answer, Engine, EngineError, Request, open_engine


def answers(engine: Engine, requests: list[Request]) -> list[tuple[int, Answer]]:
    return sorted(engine.ask(requests), key=lambda one: one[0])


def after_a_kill(engine: Engine, requests: list[Request]) -> str:
    """What the engine says when its process dies under it."""
    found: Iterator[Any] = engine.ask(requests)
    next(found)
    for process in multiprocessing.active_children():
        process.kill()
    try:
        list(found)
        list(engine.ask(requests))
    except EngineError as error:
        return str(error)
    return "nothing"


def main(asked: Path, told: Path) -> None:
    folder, options, requests, fitting = pickle.loads(asked.read_bytes())
    engine = open_engine(f"vllm:{folder}", **options)
    made: dict[str, Any] = {"identity": engine.identity, "answers": answers(engine, requests)}
    left = engine.ask(requests)
    next(left)
    left.close()  # type: ignore[attr-defined]
    made["again"] = answers(engine, requests)
    made["fitting"] = answers(engine, fitting)
    made["by transformers"] = answers(open_engine(f"transformers:{folder}", "cpu"), fitting)
    made["killed"] = after_a_kill(engine, [requests[0]] * 300)
    told.write_bytes(pickle.dumps(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
