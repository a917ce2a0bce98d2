"""Checkpoints: written aside while training goes on, whole or not at all, and never trusted unread.

    FOLDER/step-00000500/   __0_0.distcp …  .metadata   weights, moments, random state (torch DCP)
                            state.json                  step, cursor, segments, configuration: plain to read
                            complete.json               size and sha256 of every other file, written last

A checkpoint grows in `.writing-step-…`, which is renamed when `complete.json` is on the disk: what a kill
leaves is never seen, and deleted at the next start. `save` copies the tensors to memory and returns; the rest
happens in a thread, a rank writing its own tensors, the first rank digesting all files. Weights are saved as
they are trained (float32) without copies of tied ones, and moments of what is trained alone: 4 bytes a
parameter and 8 more a trained one. Any number of ranks reads what any other wrote.
"""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from trainers.optim import moments
from trainers.parallel import World, inner

FORMAT, VERSION = "imm-checkpoint", 1
STATE, COMPLETE = "state.json", "complete.json"
FAILURES = (Exception, dcp.CheckpointException)  # DCP's own is no Exception
WRITING, LEAVING = ".writing-", ".leaving-"


class CheckpointError(ValueError):
    """A checkpoint that can't be written, is damaged, or is of something else."""


class Found(NamedTuple):
    """A sound checkpoint."""

    path: Path
    about: dict[str, Any]  # its state.json


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter, tied ones once, and every buffer that is saved, by name; they share memory with it."""
    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: value for name, value in model.state_dict().items() if name not in every}
    return {name: p.detach() for name, p in model.named_parameters()} | buffers


def random_state(world: World) -> dict[str, torch.Tensor]:
    """The state of torch's generators on this rank."""
    found = {"cpu": torch.get_rng_state()}
    if world.device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(world.device)
    return found


class Checkpoints:
    """The checkpoints of one stage in `folder`, the newest `keep` of them."""

    def __init__(self, folder: Path, keep: int, world: World) -> None:
        self.folder, self.keep, self.world = folder, keep, world
        self._thread = ThreadPoolExecutor(1)
        self._pending: tuple[int, int, Future[Any]] | None = None
        if world.first:
            folder.mkdir(parents=True, exist_ok=True)
            for left in [*folder.glob(f"{WRITING}*"), *folder.glob(f"{LEAVING}*")]:
                shutil.rmtree(left)
        world.wait()

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, about: dict[str, Any]) -> None:
        """Begin to write the state after `about["step"]` steps; one that is being written is waited for.

        Raises CheckpointError if that one could not be written.
        """
        self.wait()
        name = f"step-{about['step']:08}"
        if self.world.agree((self.folder / name).exists()):
            return
        state = {
            "model": weights(inner(model)),
            "optimizer": moments(inner(model), optimizer),
            "random": {str(self.world.rank): random_state(self.world)},
        }
        size = sum(
            t.numel() * t.element_size() for t in _tensors({k: state[k] for k in ("model", "optimizer")})
        )
        folder = self.folder / f"{WRITING}{name}"
        if self.world.first:
            folder.mkdir()
        self.world.wait()
        with _quiet():
            written = dcp.async_save(
                state,
                storage_writer=dcp.FileSystemWriter(folder, sync_files=True),
                process_group=self.world.quiet,
            )
        assert isinstance(written, Future)
        done = self._thread.submit(self._finish, written, folder, about) if self.world.first else written
        self._pending = about["step"], size, done

    def poll(self) -> None:
        """Raise CheckpointError if the one being written could not be; else return at once."""
        if self._pending and self._pending[2].done():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written. Raises CheckpointError."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, size, done = pending
        try:
            done.result()
        except FAILURES as error:
            free = shutil.disk_usage(self.folder).free
            shutil.rmtree(self.folder / f"{WRITING}step-{step:08}", ignore_errors=True)
            why = _first(error)
            if free < size or "No space left" in why or "quota" in why:
                why = f"the disk is full ({why}): make room for {size:,} bytes, or lower saving.keep"
            raise CheckpointError(
                f"the checkpoint of step {step} was not written to {self.folder}: {why}; earlier ones stand"
            ) from error

    def _finish(self, written: Future[Any], folder: Path, about: dict[str, Any]) -> None:
        written.result()
        _write(folder / STATE, about)
        files = {p.name: _digest(p) for p in sorted(folder.iterdir())}
        _write(folder / COMPLETE, {"format": FORMAT, "version": VERSION, "files": files})
        _sync(folder)
        folder.rename(folder.with_name(folder.name.removeprefix(WRITING)))
        _sync(self.folder)
        for path in paths(self.folder)[: -self.keep]:
            leaving = path.rename(path.with_name(f"{LEAVING}{path.name}"))
            shutil.rmtree(leaving)


def paths(folder: Path) -> list[Path]:
    """The finished checkpoints in a folder, by rising step."""
    return sorted(folder.glob("step-*"))


def newest(folder: Path) -> tuple[Found | None, dict[Path, str]]:
    """The newest sound checkpoint in a folder, and the reason for each newer one that is not."""
    refused: dict[Path, str] = {}
    for path in reversed(paths(folder)):
        try:
            return Found(path, check(path)), refused
        except CheckpointError as error:
            refused[path] = str(error)
    return None, refused


def check(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, every file checked against its digest. Raises CheckpointError."""
    about = read_about(path)
    files = json.loads((path / COMPLETE).read_text())["files"]
    for name, told in files.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{path}: {name} is missing")
        if file.stat().st_size != told["bytes"]:
            raise CheckpointError(
                f"{path}: {name} has {file.stat().st_size} bytes instead of {told['bytes']}"
            )
        if _digest(file) != told:
            raise CheckpointError(f"{path}: {name} was changed: its sha256 is not the recorded one")
    return about


def read_about(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, its tensors unread. Raises CheckpointError."""
    try:
        complete, about = (json.loads((path / name).read_text()) for name in (COMPLETE, STATE))
        version = complete["version"] if complete["format"] == FORMAT else None
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: {Path(error.filename).name} is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: {COMPLETE} or {STATE} is damaged: {error}") from None
    if version != VERSION:
        raise CheckpointError(f"{path}: checkpoint version {version}, this imm reads {VERSION}")
    found: dict[str, Any] = about
    return found


def restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, world: World, ranks: int
) -> None:
    """Read weights into a model and, with an optimizer, its moments and the random state.

    `ranks` wrote it: at another number of ranks the generators are seeded anew from what rank 0's was.
    Raises CheckpointError if it is not of this model.
    """
    state: dict[str, Any] = {"model": weights(inner(model))}
    if optimizer is not None:
        state["optimizer"] = moments(inner(model), optimizer)
        mine = str(world.rank if ranks == world.size else 0)
        state["random"] = {mine: random_state(world)}
    try:
        with _quiet():
            dcp.load(state, checkpoint_id=path, process_group=world.quiet)
    except FAILURES as error:
        raise CheckpointError(
            f"{path} is of another model or another optimizer: {_first(error)}; the recipe must be the one "
            "it was made with"
        ) from error
    if optimizer is None:
        return
    saved = state["random"][mine]
    torch.set_rng_state(saved["cpu"])
    if ranks != world.size:
        torch.manual_seed(int(torch.randint(2**62, ())) + world.rank)
    elif "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], world.device)


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _write(path: Path, value: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return [t for v in value.values() for t in _tensors(v)]
    return [value]


@contextlib.contextmanager
def _quiet() -> Any:
    """Without torch's warnings that there is one process, and that async saving may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first(error: BaseException) -> str:
    """What went wrong, in a line: of DCP's errors, which gather those of all ranks, the first."""
    if isinstance(error, dcp.CheckpointException):
        error = next(cause for cause, _ in error.failures.values())
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
