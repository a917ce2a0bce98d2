"""The Python that has vLLM, which may be another than the one that runs the tests, and scripts run by it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "IMM_VLLM_PYTHON"
ENGINE = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in the process that asks
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
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


def run_vllm(python: str, script: str, *arguments: Path, work: Path, **environment: str) -> None:
    """Run a script of tests/ with vLLM; fails with what it said last."""
    (work / "site").mkdir()
    (work / "site" / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(work / "site"), str(ROOT)])
    done = subprocess.run(
        [python, ROOT / "tests" / script, *arguments],
        capture_output=True, text=True, timeout=600,
        env={**os.environ, **ENGINE, "PYTHONPATH": path, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"vLLM, by {python}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
