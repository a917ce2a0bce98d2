"""Three engines beside each other on one small model: what they say, what is accepted, and how fast.

    PYTHON_WITH_VLLM benchmarks/engines.py [--model FOLDER] [--count 48]
    PYTHON_WITH_VLLM benchmarks/engines.py --throughput [--model FOLDER] [--count 256]

`imm synthesize` by transformers, by vLLM in this process and by vLLM's server, greedily and in float32, on
scenes that no training saw: requests, tokens a second, pairs accepted, and replies and accepted samples that
differ from those of transformers, the first few of them shown. `--throughput`: the requests of one run over
vLLM are asked of the bare `vllm.LLM.chat` again, all at once, and the run is repeated: two of each, in turn,
caches emptied, the best of each compared. Both take conversations of decoded pictures; the run reads and
decodes them, draws, reads replies, stores them and writes the manifest, too.
"""

import argparse
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from infinity_mm.cli import main as imm
from infinity_mm.engines.base import ENGINES, Answer, Identity, Request, open_engine
from infinity_mm.manifest import Manifest
from infinity_mm.models.shipped import vlm_folder
from infinity_mm.store import Store
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.stage import run

SEED = 910_000  # far from the seeds of tests and trainings
OPTIONS = "?enforce_eager=true&dtype=float32"
SHOWN = 5  # differences


class Recording:
    """An engine that is open, and what it was asked. Closing it leaves it open."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.spec, self.identity = engine, engine.spec, engine.identity
        self.asked: list[Request] = []

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        self.asked += requests
        return self.engine.ask(requests)  # type: ignore[no-any-return]

    def close(self) -> None: ...


def synthesized(store: Path, name: str, engine: str) -> dict[str, Any]:
    """`imm synthesize`; `wall`: seconds of all of it but loading a model."""
    config = SynthesizeConfig(
        store=str(store), manifest="raw", out=name, engine=engine, device="cpu", prompts="scenes",
        types="scenes", blind="gray", max_answer=64, replace=True,
    )  # fmt: skip
    began = time.perf_counter()
    result = run(config)
    return {**result, "wall": time.perf_counter() - began}


def given(engine: Any) -> Recording:
    """An engine under the name of `given`."""
    recording = Recording(engine)
    ENGINES["given"] = lambda rest, device, options: recording
    return recording


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """vLLM's server of a folder until the end of the block; the engine that asks it."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--served-model-name", "m",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager",
        "--max-logprobs", "20",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while not answers(port):
            if process.poll() is not None:
                raise SystemExit("vLLM's server ended before it was ready")
            time.sleep(0.5)
        yield f"openai:m@http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answers(port: int) -> bool:
    asked = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", "/health")
        return asked.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        asked.close()


def stored(store: Path, name: str) -> dict[str, str]:
    """The text or the failure that an engine's run has for each request."""
    engines = Manifest.open(Store.open(str(store)), name).document["synthesis"]["engines"]
    key = Identity(**{field: engines["writer"][field] for field in Identity._fields}).key
    rows = [r for f in (store / "replies" / key).rglob("*.parquet") for r in pq.read_table(f).to_pylist()]
    return {row["key"]: row["text"] if row["failure"] is None else row["failure"] for row in rows}


def accepted(store: Path, name: str) -> set[bytes]:
    manifest = Manifest.open(Store.open(str(store)), name)
    rows = pq.read_table(store / manifest.document["ledger"]["file"]).to_pylist()
    return {(row["detail"]).encode() for row in rows if row["reason"] == "merged"}


def compare(store: Path, folder: Path) -> None:
    print(
        f"{'engine':<14}{'requests':>9}{'tokens/s':>10}{'accepted':>10}{'other replies':>15}"
        f"{'other pairs':>13}"
    )
    first: dict[str, str] = {}
    pairs: set[bytes] = set()
    shown: list[str] = []

    def told(name: str, engine: str) -> None:
        nonlocal first, pairs
        result = synthesized(store, name, engine)
        replies, own = stored(store, name), accepted(store, name)
        first, pairs = first or replies, pairs if name != "transformers" else own
        other = [key for key in replies.keys() & first.keys() if replies[key] != first[key]]
        rate = result["tokens"] / result["seconds"]
        print(
            f"{name:<14}{result['asked']:>9,}{rate:>10,.0f}{len(own):>10,}{len(other):>15,}"
            f"{len(own ^ pairs):>13,}",
            flush=True,
        )
        shown.extend(f"{name}: {replies[key]!r}, transformers {first[key]!r}" for key in other[:SHOWN])

    told("transformers", f"transformers:{folder}")
    engine = open_engine(f"vllm:{folder}{OPTIONS}")
    given(engine)
    told("vllm", "given")
    engine.close()
    with server(folder) as spec:
        told("openai", spec)
    print("\n".join(shown))


def throughput(store: Path, folder: Path) -> None:
    from infinity_mm.engines.checks import images_of
    from infinity_mm.engines.vllm import _content, _sampling

    engine: Any = open_engine(f"vllm:{folder}{OPTIONS}")
    recording = given(engine)
    best: dict[str, float] = {}
    tokens: dict[str, int] = {}

    def timed(name: str, seconds: float, count: int) -> None:
        print(
            f"{name:<16}{count:>10,} tokens in {seconds:7.2f} s {count / seconds:>10,.0f} a second",
            flush=True,
        )
        best[name] = max(best.get(name, 0.0), count / seconds)
        tokens[name] = count

    for _ in range(3):  # the first one warms up
        shutil.rmtree(store / "replies", ignore_errors=True)
        recording.asked.clear()
        engine.llm.reset_prefix_cache()
        engine.llm.reset_mm_cache()
        result = synthesized(store, "made", "given")
        timed("imm synthesize", result["wall"], result["tokens"])
        turns, sampling = [], []
        for request in recording.asked:
            images = iter(images_of(request))
            turns.append([{"role": m.role, "content": _content(m, images)} for m in request.messages])
            sampling.append(_sampling(request))
        engine.llm.reset_prefix_cache()
        engine.llm.reset_mm_cache()
        began = time.perf_counter()
        outputs = engine.llm.chat(turns, sampling, use_tqdm=False)
        count = sum(len(o.prompt_token_ids) + len(o.outputs[0].token_ids) for o in outputs)
        timed("vllm.LLM.chat", time.perf_counter() - began, count)
    share = best["imm synthesize"] / best["vllm.LLM.chat"]
    print(f"{len(recording.asked):,} requests; {share:.3f} of the bare engine's rate")
    assert tokens["imm synthesize"] == tokens["vllm.LLM.chat"], tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder of a model that knows scenes [the one that ships]")
    parser.add_argument("--count", type=int, help="pictures [48; with --throughput 256]")
    parser.add_argument("--throughput", action="store_true", help="compare with the bare vllm.LLM.chat")
    asked = parser.parse_args()
    if importlib.util.find_spec("vllm") is None:
        print("vLLM is not installed here: run this by a Python that has it")
        return
    folder = asked.model or vlm_folder("tiny")
    count = asked.count or (256 if asked.throughput else 48)
    with tempfile.TemporaryDirectory() as place:
        store, drawn = Path(place, "store"), f"{place}/scenes"
        still = [word for part in ("multi-image", "text-only", "video") for word in (f"--{part}-share", "0")]
        imm(["scenes", "--out", drawn, "--count", str(count), "--seed", str(SEED), *still])
        imm(["ingest", f"{drawn}/data.json", "--out", "raw", "--source", "scenes", "--store", str(store)])
        (throughput if asked.throughput else compare)(store, folder)


if __name__ == "__main__":
    main()
