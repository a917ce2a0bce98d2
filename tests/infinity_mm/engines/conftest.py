"""A small exported model."""

from pathlib import Path

import pytest
import torch
from tiny_llava import composition

from trainers.llava.export import export


@pytest.fixture(scope="session")
def exported_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights, large ones, so that what it says depends on what it is asked."""
    made = composition()
    model = made.build(seed=1)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter.mul_(3)
    return export(model, made, tmp_path_factory.mktemp("exported") / "model", card="")
