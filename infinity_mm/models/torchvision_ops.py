"""Importing torchvision where its compiled part does not fit the torch that is installed.

A torchvision built for CUDA beside a torch for CPU brings no operators, and its plain import stops at the
first that it looks for: `torchvision::nms`. Of the operators it needs the names of two alone, to register how
they trace. Nothing here calls them: open_clip and transformers want torchvision's transforms.
"""

import sys
from typing import Any

OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[Any] = []  # a library's definitions go with it


def import_torchvision() -> None:
    """Import torchvision, with its operators' names defined first if need be. Raises what its import does."""
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    else:
        return
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        library.define(name + SCHEMA)
    _kept.append(library)
    import torchvision  # noqa: F401
