"""vLLM's engine and its server beside transformers' engine, on one exported folder in float32.

The folder was taught what to say in a synthesis, so that the accepted sets tell something: of 24 pairs some
are accepted and most refused. To requests that it was not taught it answers with near-ties, which rounding
could decide: the least margin is asserted.
"""

import json
import math
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from counting_proxy import proxied
from engine_requests import PLACES, REQUESTS, SETTINGS, synthesized
from told_vlm import Told, told_vlm
from vllm_python import ROOT, TIMEOUT, run_vllm, vllm_python, vllm_server

from infinity_mm.engines.base import Answer, Failure, Identity, Reply, open_engine
from infinity_mm.engines.checks import checked
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store

MARGIN = 2e-3  # by which each token is ahead of the next likeliest at least, in nats
CLOSE = 2e-4  # log-probabilities
STRUCK_AFTER = 20  # requests, of about 100


@pytest.fixture(scope="module")
def python() -> str:
    return vllm_python()


@pytest.fixture(scope="module")
def told(python: str, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The folder and the store, where transformers' engine has written and checked pairs."""
    made = told_vlm(tmp_path_factory.mktemp("told"))
    result = synthesized(made.store, "by_transformers", f"transformers:{made.folder}", device="cpu")
    assert result["reasons"]["merged"] > 2 and result["reasons"]["low_score"] > 2
    return made


def test_vllm_answers_as_transformers_do(python: str, told: Told, tmp_path: Path) -> None:
    run_vllm(python, "vllm_engines.py", str(told.folder), told.store, tmp_path / "answers", work=tmp_path)
    found = pickle.loads((tmp_path / "answers").read_bytes())
    mine = open_engine(f"transformers:{told.folder}", "cpu")
    asked = [place for name, places in PLACES.items() if name != "fitting" for place in places]
    ours = dict(zip(asked, in_order(mine.ask([REQUESTS[place] for place in asked])), strict=True))
    assert [place for place, _ in found["answers"]] == list(range(len(REQUESTS)))
    assert [place for place, _ in found["again"]] == list(range(len(REQUESTS)))  # some were broken off
    theirs, again = dict(found["answers"]), dict(found["again"])

    # greedy replies, and what is told of their tokens
    for place in PLACES["greedy"]:
        one, other = said(ours[place]), said(theirs[place])
        assert min(t.top[0][1] - t.top[1][1] for t in one.tokens) > MARGIN
        assert one[:4] == other[:4] == said(again[place])[:4]
        assert [t.text for t in one.tokens] == [t.text for t in other.tokens]
        assert flat(one) == pytest.approx(flat(other), abs=CLOSE)

    # choices: the same, with log-probabilities among what is allowed
    for place in (*PLACES["chosen"], *PLACES["spelled"]):
        other = said(theirs[place])
        assert checked(REQUESTS[place], other) == other
        if place in PLACES["chosen"]:
            assert said(ours[place]).text == other.text
            assert sum(math.exp(log) for _, log in other.tokens[0].top) == pytest.approx(1, abs=1e-3)

    # seeds, schemas
    first, second, third = (said(theirs[place]).text for place in PLACES["drawn"])
    assert first == second != third
    for place in PLACES["fitting"]:
        assert set(json.loads(said(theirs[place]).text)) == {"colour", "count"}

    # what one request can't have is no other's affair
    reasons = ["bad_picture", "prompt_too_long", "prompt_too_long", "refused"]
    assert [reason(theirs[p]) for p in PLACES["bad"]] == reasons == [reason(ours[p]) for p in PLACES["bad"]]
    assert [reason(theirs[p]) for p in PLACES["many"]] == ["refused"]

    assert found["identity"].model.partition("?")[0] == mine.identity.model
    assert "?pictures=2&max_model_len=1024&" in found["identity"].model
    assert "vLLM has stopped" in found["stopped"]
    same_set(told, "by_vllm")


def test_a_job_outlives_its_server(python: str, told: Told, tmp_path: Path) -> None:
    port = free_port()
    options = ("--served-model-name", "told", "--max-model-len", "1024", "--max-logprobs", "20")
    log = tmp_path / "job.log"
    with (
        vllm_server(python, told.folder, port, tmp_path, *options) as kill,
        proxied(port, STRUCK_AFTER, kill) as proxy,
    ):
        job = start(told, f"openai:told@{proxy.url}", log)
        while job.poll() is None and not proxy.struck.wait(0.1):
            pass
        assert proxy.struck.is_set(), log.read_text()
        with vllm_server(python, told.folder, port, tmp_path, *options):
            if job.wait(TIMEOUT):  # it did not wait so long
                assert "go on when the server is there again" in log.read_text()
                job = start(told, f"openai:told@{proxy.url}", log)
                assert job.wait(TIMEOUT) == 0, log.read_text()
    same_set(told, "by_server")
    stored = replies(told, "by_server")
    assert proxy.answered.total() == len(proxy.answered) == len(stored) > 3 * STRUCK_AFTER


def start(told: Told, engine: str, log: Path) -> "subprocess.Popen[bytes]":
    """`imm synthesize` in a process of its own."""
    given = {**SETTINGS, "engine": engine, "out": "by_server", "store": told.store, "concurrency": 4}
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "infinity_mm.cli", "synthesize", "raw", *options],
            stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def same_set(told: Told, name: str) -> None:
    """Whether an engine's accepted pairs, refusals and replies are those of transformers."""
    store = Store.open(str(told.store))
    one, other = (Manifest.open(store, each) for each in ("by_transformers", name))
    assert one.digest == other.digest
    assert verdicts(store, one) == verdicts(store, other)
    assert replies(told, "by_transformers") == replies(told, name)


def verdicts(store: Store, manifest: Manifest) -> list[tuple[str, str]]:
    rows = pq.read_table(store.path(manifest.document["ledger"]["file"])).to_pylist()
    return sorted((row["reason"], row["detail"]) for row in rows)


def replies(told: Told, name: str) -> dict[str, str]:
    """The stored reply to each request of an engine, as text."""
    engines = Manifest.open(Store.open(str(told.store)), name).document["synthesis"]["engines"]
    key = Identity(**{field: engines["writer"][field] for field in Identity._fields}).key
    files = (told.store / "replies" / key).rglob("*.parquet")
    return {row["key"]: row["text"] for file in files for row in pq.read_table(file).to_pylist()}


def in_order(found: Any) -> list[Answer]:
    return [answer for _, answer in sorted(found, key=lambda one: one[0])]


def said(answer: Answer) -> Reply:
    assert isinstance(answer, Reply), answer
    return answer


def reason(answer: Answer) -> str:
    assert isinstance(answer, Failure), answer
    return answer.reason


def flat(reply: Reply) -> list[float]:
    return [v for t in reply.tokens for v in (t.logprob, *(log for _, log in t.top))]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])
