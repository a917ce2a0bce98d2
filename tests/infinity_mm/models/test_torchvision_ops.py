"""torchvision imports, whatever it was compiled for."""

import subprocess
import sys

import pytest

TWICE = """
from infinity_mm.models.torchvision_ops import import_torchvision
import_torchvision()
import_torchvision()
from torchvision.transforms import Compose, v2
import open_clip
print("fine")
"""


def test_it_imports_and_so_does_what_needs_it() -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
