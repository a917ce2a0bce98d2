"""Where a torch model runs, and what to say where torch is not installed."""

from typing import Any


def torch_device(spec: str, device: str | None, kind: str = "embedder") -> tuple[str, str]:
    """(device, dtype) for a model: float16 on a GPU, float32 on a CPU. `kind` is what it is to be. Raises
    ValueError."""
    try:
        import torch
    except ImportError:
        raise ValueError(f"{kind} {spec} needs torch: pip install 'infinity-mm[models]'") from None
    there = torch.cuda.is_available()
    device = device or ("cuda" if there else "cpu")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r}: give cpu, cuda or cuda:N")
    if device != "cpu" and not there:
        raise ValueError(f"device {device!r}: torch {torch.__version__} sees no GPU here; give cpu")
    return device, "float32" if device == "cpu" else "float16"


def to_numpy(features: Any) -> Any:
    """A tensor of features as float32 numpy."""
    return features.float().cpu().numpy()
