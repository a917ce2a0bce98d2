"""Running a script or command on gloo ranks."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "trainers" / "gloo_ranks.py"


def on_ranks(ranks: int, *args: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run a Python script and its arguments on so many ranks of torchrun, or in one process without it."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *launch, *map(str, args)]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=150)
