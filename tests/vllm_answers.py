"""Asks vLLM: a script for the interpreter that has it, which need have nothing else of ours.

    python vllm_answers.py QUESTIONS.json ANSWERS.json

Questions: [{"folder": …, "batches": [[conversation, …], …]}, …], conversations as in OpenAI's API; an engine
for each folder. Answers: for each conversation of a folder [prompt's ids, answer's ids, the latter's log
probabilities].
"""

import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12, logprobs=0)


def answers(folder: str, batches: Sequence[Sequence[Any]]) -> list[list[Any]]:
    engine = LLM(
        folder,
        dtype="float32",
        enforce_eager=True,
        max_model_len=2048,
        limit_mm_per_prompt={"image": 4, "video": 1},
    )
    found = [one for batch in batches for one in engine.chat(batch, GREEDY, use_tqdm=False)]
    return [[list(one.prompt_token_ids), *chosen(one.outputs[0])] for one in found]


def chosen(answer: Any) -> tuple[list[int], list[float]]:
    """An answer's tokens and the log probability of each."""
    ids = list(answer.token_ids)
    return ids, [at[token].logprob for token, at in zip(ids, answer.logprobs, strict=True)]


if __name__ == "__main__":
    found = []
    for asked in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        found.append(answers(asked["folder"], asked["batches"]))
        gc.collect()  # an engine is a cycle: its memory goes before the next one's is taken
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
