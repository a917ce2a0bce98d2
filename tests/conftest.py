"""Fixtures for the labelled data and weights beside the checkout, and the hypothesis profiles."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
IN_CI = os.environ.get("CI") == "true"

settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if IN_CI else "dev")


def _shared(name: str) -> Path:
    """The folder, or a skip that names what is missing; under CI what is missing is a failure."""
    folder = SHARED / name
    if not folder.is_dir():
        message = f"needs the folder ../shared/{name} beside the checkout, which is not there"
        if IN_CI:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    return _shared("weights")
