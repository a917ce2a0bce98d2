"""Asks vLLM's engine: a script for the interpreter that has vLLM, and what `imm synthesize` needs.

    python vllm_engines.py MODEL STORE ANSWERS.pickle

ANSWERS: a dictionary of the engine's identity, what it answered to the requests of `engine_requests`, twice,
what came of `imm synthesize` on the store, and how a job ended when vLLM was stopped under it.
"""

import pickle
import sys
from pathlib import Path
from typing import Any

from engine_requests import REQUESTS, synthesized

from infinity_mm.engines.base import ENGINES, Answer, Engine, EngineError, Request, open_engine


def answers(engine: Engine, requests: list[Request]) -> list[tuple[int, Answer]]:
    return sorted(engine.ask(requests), key=lambda one: one[0])


def stopped(engine: Any) -> str:
    """What the engine says when vLLM stops under it."""
    found = engine.ask(REQUESTS[:2])
    next(found)
    engine.llm.llm_engine.engine_core.shutdown()
    try:
        list(found)
        list(engine.ask(REQUESTS[:2]))
    except EngineError as error:
        return str(error)
    return "nothing"


def main(model: str, store: Path, told: Path) -> None:
    engine = open_engine(
        f"vllm:{model}?max_model_len=1024&pictures=2",
        dtype="float32",
        enforce_eager=True,
        max_num_seqs=8,
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},  # or it goes on
    )
    made: dict[str, Any] = {"identity": engine.identity, "answers": answers(engine, REQUESTS)}
    left = engine.ask(REQUESTS)
    next(left)
    left.close()  # type: ignore[attr-defined]
    made["again"] = answers(engine, REQUESTS)
    ENGINES["opened"] = lambda rest, device, options: engine
    closed, engine.close = engine.close, lambda: None  # type: ignore[method-assign]
    made["synthesized"] = synthesized(store, "by_vllm", "opened")
    made["stopped"] = stopped(engine)
    closed()
    told.write_bytes(pickle.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
