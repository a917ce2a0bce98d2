"""`imm doctor`: what is installed, what can be used, what is missing and how to get it.

Versions come from package metadata; libraries are imported in a subprocess, so one that crashes on import
is reported like any other.
"""

import fcntl
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infinity_mm import __version__
from infinity_mm.cli.options import stage_command
from infinity_mm.progress import Progress

# requirement name: the module it brings, where the two differ
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "open-clip-torch": "open_clip", "faiss-cpu": "faiss"}
REMOTE = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "lustre",
    "ceph",
    "glusterfs",
    "beegfs",
    "gpfs",
    "9p",
    "afs",
    "virtiofs",
}
FEW_OPEN_FILES = 1024

IMPORT_PROBE = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        found[name] = None
    except Exception as problem:
        found[name] = f"{type(problem).__name__}: {problem}"
print(json.dumps(found))
"""
VIDEO_PROBE = """
import json, av
print(json.dumps([name for name in ("h264", "hevc", "vp9", "av1", "mpeg4") if name in av.codecs_available]))
"""
JPEG_PROBE = """
import numpy, simplejpeg
pixels = numpy.zeros((8, 8, 3), numpy.uint8)
assert simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels), strict=True).shape == pixels.shape
print("true")
"""
CUDA_PROBE = """
import json, torch
print(json.dumps([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]))
"""
REMOTE_PROBE = """
import sys, fsspec
fs, root = fsspec.core.url_to_fs(sys.argv[1])
probe = f"{root.rstrip('/')}/{sys.argv[2]}"
fs.pipe_file(probe, b"probe")
fs.rm_file(probe)
print("true")
"""


class DoctorConfig(BaseModel):
    """Tell what is installed, what can be used and what is missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str | None = Field(None, description="Also check this store: folder or fsspec URL.")


def run(config: DoctorConfig, progress: Progress) -> dict[str, Any]:
    return examine(config.store)


def examine(store: str | None = None) -> dict[str, Any]:
    """All findings; `ok` is true where every core library imports and the store, if given, is writable."""
    groups = requirements()
    libraries = {
        group: {name: _version(name) for name in names} for group, names in groups.items() if group != "dev"
    }
    core = libraries["core"]
    broken = _broken([name for name, version in core.items() if version])
    problems = [{"what": f"{name} does not import: {why}", "do": _pip([groups["core"][name]], force=True)}
                for name, why in broken.items()]  # fmt: skip
    for group, versions in libraries.items():
        missing = [groups[group][name] for name, version in versions.items() if version is None]
        if missing:
            what = "the core" if group == "core" else f"the optional `{group}` part"
            names = ", ".join(name for name, version in versions.items() if version is None)
            problems.append({"what": f"{what} lacks {names}", "do": _pip(missing)})
    machine = _machine(store)
    has_torch = bool(libraries.get("train", {}).get("torch"))
    gpus = (_probe(CUDA_PROBE) or []) if has_torch else []
    seen = _nvidia_smi()
    can = {
        "jpeg_strict": _probe(JPEG_PROBE) is True,
        "video_codecs": _probe(VIDEO_PROBE) or [],
        "gpus": gpus,
        "nvidia_smi": seen,
    }
    if seen and not gpus:
        why = "torch cannot use it" if has_torch else "torch is not installed"
        wanted = _pip([groups["train"]["torch"]], force=has_torch)
        problems.append({"what": f"a GPU is there ({seen[0]}), but {why}", "do": wanted})
    if machine["open_files"] < FEW_OPEN_FILES:
        what = f"only {machine['open_files']} files may be open at once"
        problems.append({"what": what, "do": "ulimit -n 65536"})
    found = None if store is None else check_store(store)
    if found and not found["writable"]:
        problems.append(
            {"what": f"the store {store} cannot be written: {found['error']}", "do": "give another --store"}
        )
    return {
        "ok": all(core.values()) and not broken and (found is None or found["writable"]),
        "imm": __version__,
        "python": platform.python_version(),
        "libraries": libraries,
        "can": can,
        "machine": machine,
        "store": found,
        "problems": problems,
    }


def requirements() -> dict[str, dict[str, str]]:
    """What the package asks for, by extra (`core` for none): name to requirement, such as `av>=12`."""
    groups: dict[str, dict[str, str]] = {"core": {}}
    for line in metadata.requires("infinity-mm") or []:
        wanted, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
        name = re.match(r"[\w.-]+", wanted)
        assert name, line
        groups.setdefault(extra[1] if extra else "core", {})[name[0]] = wanted.strip()
    return groups


def check_store(store: str) -> dict[str, Any]:
    """Whether files can be written there and what the file system can do; the folder itself is not made."""
    found: dict[str, Any] = {"where": store, "writable": False, "error": None, "remote": True}
    if "://" in store and not store.startswith("file://"):
        found["filesystem"] = store.partition("://")[0]
        answer, error = _run([sys.executable, "-c", REMOTE_PROBE, store, f".imm-doctor-{os.getpid()}"])
        found["writable"], found["error"] = answer is not None, error
        return found
    folder = _existing(Path(store.removeprefix("file://")))
    mounts = Path("/proc/mounts")
    found["filesystem"] = filesystem_of(folder.resolve(), mounts.read_text()) if mounts.exists() else None
    found["remote"] = found["filesystem"] in REMOTE or str(found["filesystem"]).startswith("fuse.")
    try:
        with tempfile.TemporaryDirectory(prefix=".imm-doctor-", dir=folder) as probe:
            found["flock"] = _flock_works(Path(probe, "lock"))
            found["sparse_files"] = _sparse_works(Path(probe, "sparse"))
        found["writable"] = True
    except OSError as problem:
        found["error"] = problem.strerror or str(problem)
    return found


def report(result: Mapping[str, Any]) -> str:
    """The findings for a person."""
    lines = [f"imm {result['imm']}, Python {result['python']}", ""]
    for group, versions in result["libraries"].items():
        lines.append("core libraries" if group == "core" else f"optional: {group}")
        lines += [f"  {name:<18}{version or 'missing'}" for name, version in versions.items()]
    can, machine, store = result["can"], result["machine"], result["store"]
    gpus = can["gpus"] or can["nvidia_smi"]
    rows = {
        "JPEG, strict": "yes" if can["jpeg_strict"] else "no",
        "video": ", ".join(can["video_codecs"]) or "no",
        "GPU": ", ".join(gpus) if gpus else "none",
        "CPUs": machine["cpus"],
        "memory": f"{_gib(machine['memory_free'])} free of {_gib(machine['memory'])}",
        "disk": f"{_gib(machine['disk_free'])} free",
        "open files": f"at most {machine['open_files']:,}",
    }
    if store:
        yes_no = {True: "yes", False: "no"}
        rows["store"] = (
            f"{store['where']} ({store['filesystem']}, {'remote' if store['remote'] else 'local'})"
        )
        for key in ("writable", "flock", "sparse_files"):
            if key in store:
                rows[f"  {key.replace('_', ' ')}"] = yes_no[store[key]]
    lines += ["", "can be used", *(f"  {name:<18}{value}" for name, value in rows.items())]
    if result["problems"]:
        lines += ["", "missing"]
        lines += [text for p in result["problems"] for text in (f"  {p['what']}", f"    {p['do']}")]
    return "\n".join(
        [*lines, "", "the core can be used" if result["ok"] else "error: the core cannot be used"]
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _broken(names: list[str]) -> dict[str, str]:
    """Libraries that are installed and do not import, with why."""
    modules = {MODULES.get(name, name.replace("-", "_")): name for name in names}
    answer, error = _run([sys.executable, "-c", IMPORT_PROBE, *modules])
    if answer is None:
        return {"a core library": error or "the interpreter died"}
    return {modules[module]: why for module, why in json.loads(answer).items() if why}


def _pip(wanted: list[str], force: bool = False) -> str:
    again = " --force-reinstall" if force else ""
    return f"{sys.executable} -m pip install{again} " + " ".join(f"'{one}'" for one in wanted)


def _probe(code: str) -> Any:
    answer, _ = _run([sys.executable, "-c", code])
    return None if answer is None else json.loads(answer)


def _run(command: list[str]) -> tuple[str | None, str | None]:
    """The last line of stdout, or None and the last line of stderr."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return None, str(problem)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return (done.stdout.strip().splitlines() or [""])[-1], None


def _nvidia_smi() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [] if done.returncode else done.stdout.split("\n")[:-1]


def _machine(store: str | None) -> dict[str, Any]:
    local = Path(store) if store and "://" not in store else Path()
    page = os.sysconf("SC_PAGE_SIZE")
    memory = os.sysconf("SC_PHYS_PAGES") * page
    free = os.sysconf("SC_AVPHYS_PAGES") * page
    if (meminfo := Path("/proc/meminfo")).exists():
        # what caches can give back counts as free
        found = re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text())
        free = int(found[1]) * 1024 if found else free
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        memory, free = min(memory, int(text)), min(free, int(text))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpus": cpus,
        "memory": memory,
        "memory_free": free,
        "disk_free": shutil.disk_usage(_existing(local)).free,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def filesystem_of(folder: Path, mounts: str) -> str | None:
    """The kind of file system a folder lies on: that of the longest mount point above it."""
    best, kind = -1, None
    for line in mounts.splitlines():
        # a space in a mount point is written \\040
        point = Path(line.split()[1].replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), line.split()[2]
    return kind


def _flock_works(path: Path) -> bool:
    """Whether a second lock on one file is refused."""
    with path.open("w") as first, path.open("w") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _sparse_works(path: Path) -> bool:
    size = 1 << 22
    with path.open("wb") as file:
        file.truncate(size)
    return path.stat().st_blocks * 512 < size


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


app = stage_command(
    DoctorConfig, run, show=report, name="doctor", help="Tell what is installed, usable and missing."
)
