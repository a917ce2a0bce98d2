"""Exported folders: written whole or not at all, weights in files of a size that others take."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

SHARD = 5 << 30  # bytes of a file of weights; what is larger is several


@contextmanager
def whole_folder(folder: Path, replace: bool) -> Iterator[Path]:
    """A folder to write in, which takes its name when all is written. Raises FileExistsError where it is
    there, unless it is to be replaced."""
    if folder.exists() and not replace:
        raise FileExistsError(f"{folder} is there already: give another folder, or remove it")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_weights(
    folder: Path, weights: Mapping[str, torch.Tensor], dtype: torch.dtype | None
) -> torch.dtype:
    """Weights in files of at most SHARD bytes; returns their dtype."""
    from safetensors.torch import save_file

    size = {name: value.numel() * (dtype or value.dtype).itemsize for name, value in weights.items()}
    shards = list(_shards(size))
    names = [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    for file, shard in zip(names, shards, strict=True):
        # tied weights are one tensor under two names, which the format does not know: each is a copy
        parts = {name: weights[name].detach().to("cpu", dtype, copy=True).contiguous() for name in shard}
        save_file(parts, folder / file, {"format": "pt"})
        (folder / file).chmod(0o644)  # safetensors writes for its owner alone
    if len(shards) > 1:
        of = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        index = {"metadata": {"total_size": sum(size.values())}, "weight_map": of}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return dtype or next(iter(weights.values())).dtype


def _shards(size: Mapping[str, int]) -> Iterator[list[str]]:
    """Names in runs of at most SHARD bytes, one at least in each."""
    shard: list[str] = []
    room = SHARD
    for name, needed in size.items():
        if shard and needed > room:
            yield shard
            shard, room = [], SHARD
        shard.append(name)
        room -= needed
    yield shard
