"""The fuzzers of `benchmarks/`, a short run of each; `make bench` runs them in full."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fuzz_ingest.py", "--count", "400"],
        ["fuzz_records.py", "--count", "300"],
        ["fuzz_media.py", "--count", "300"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_nothing_escapes(arguments: list[str]) -> None:
    more = ["--tries", "20"] if arguments[0] == "fuzz_media.py" else []
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / arguments[0]), *arguments[1:], "--seed", "5", *more],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
