"""The Python that has vLLM, which may be another than the one that runs the tests, and scripts run by it.

It has what this package needs without its extras, too.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "IMM_VLLM_PYTHON"
ENGINE = {
    # The engine in the process that asks: else, on a CPU, it is two processes more that import vLLM anew, one
    # bound to a core of its own, which takes minutes where cores are few and busy.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCH_COMPILE_DISABLE": "1",  # telling log-probabilities compiles C++ first, eager or not
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
TIMEOUT = 600  # seconds
SERVER = "vllm.entrypoints.openai.api_server"  # as `vllm serve`, which asks for a version that vllm-cpu lacks
SITE = """\
from infinity_mm.models.torchvision_ops import import_torchvision

import_torchvision()
"""  # as sitecustomize: vLLM looks at a model's class in a process of its own, which imports torchvision too


def vllm_python() -> str:
    """The interpreter that has vLLM, or a skip that says what is missing; under CI a failure."""
    if named := os.environ.get(VARIABLE):
        return named
    if importlib.util.find_spec("vllm") is not None:
        return sys.executable
    message = f"needs vLLM: it is not installed here, and {VARIABLE} names no interpreter that has it"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def environment(work: Path, **more: str) -> dict[str, str]:
    """Variables for a process that has vLLM; `work` gets a folder with what it begins with."""
    site = work / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join((str(site), str(ROOT)))
    return {**os.environ, **ENGINE, "PYTHONPATH": path, **more}


def run_vllm(python: str, script: str, *arguments: Path | str, work: Path, **more: str) -> None:
    """Run a script of tests/ with vLLM; fails with what it said last."""
    done = subprocess.run(
        [python, ROOT / "tests" / script, *arguments],
        capture_output=True, text=True, timeout=TIMEOUT, env=environment(work, **more),
    )  # fmt: skip
    assert done.returncode == 0, f"vLLM, by {python}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


@contextmanager
def vllm_server(
    python: str, folder: Path, port: int, work: Path, *options: str
) -> Iterator[Callable[[], None]]:
    """`vllm serve` of a folder at a port, ready; gives what kills it at once, all its processes."""
    log = work / f"server-{time.time_ns()}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [
                python, "-m", SERVER, "--model", folder, "--host", "127.0.0.1",
                "--port", str(port), "--dtype", "float32", "--enforce-eager", *options,
            ],
            stdout=said, stderr=said, env=environment(work), start_new_session=True,
        )  # fmt: skip

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        until = time.monotonic() + TIMEOUT
        while not _healthy(port):
            ended = process.poll() is not None or time.monotonic() > until
            assert not ended, f"vLLM's server, by {python}:\n{log.read_text()[-6000:]}"
            time.sleep(0.2)
        yield kill
    finally:
        kill()


def _healthy(port: int) -> bool:
    server = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        server.request("GET", "/health")
        return server.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        server.close()
