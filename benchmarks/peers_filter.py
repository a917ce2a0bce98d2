"""One peer's image checks over a folder of images, run by the peers' own interpreter for `filter.py --peers`.

    PYTHON benchmarks/peers_filter.py CONTENDER FOLDER RESULT

writes one JSON object to RESULT: `seconds` (imports left out), `imports` (their CPU seconds), `images`,
`versions` and, for cleanvision, `scores` (per file name, the score and the verdict of each check, and two of
the measures behind them). It knows nothing of this project.

Each peer gets its best chance: two processes, no progress of the peer's own switched on, data-juicer with its
operators fused (greedily: the default probes their speed first, which takes longer than the run) and with
thresholds that keep every image, so that each operator sees all of them.
"""

# mypy: disable-error-code="import-not-found"
# (the peers' environment has what is imported here)

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROPERTIES = ("dark", "light", "odd_aspect_ratio", "low_information", "blurry", "grayscale", "odd_size")
SHAPES: list[dict[str, Any]] = [
    {"image_shape_filter": {}},
    {"image_size_filter": {"min_size": "0"}},
    {"image_aspect_ratio_filter": {"min_ratio": 0.0001, "max_ratio": 10_000}},
]
SUBPLOT: dict[str, Any] = {"image_subplot_filter": {"min_confidence": 2}}
PHASH: dict[str, Any] = {"image_deduplicator": {"method": "phash"}}


def cleanvision(folder: Path, checks: tuple[str, ...]) -> dict[str, Any]:
    """`Imagelab.find_issues`; no `checks` are all of them, with exact and near duplicates."""
    from cleanvision import Imagelab

    imports, started = time.process_time(), time.perf_counter()
    lab = Imagelab(data_path=str(folder))
    lab.find_issues({name: {} for name in checks} or None, n_jobs=2)
    seconds = time.perf_counter() - started
    names = [Path(path).name for path in lab.issues.index]
    columns = {
        **{f"{check}_score": lab.issues[f"{check}_score"] for check in PROPERTIES},
        **{f"{check}_issue": lab.issues[f"is_{check}_issue"] for check in PROPERTIES},
        "brightness": lab.info["dark"]["brightness"],
        "blurriness": lab.info["blurry"]["blurriness"],
    }
    scores = {name: dict(zip(names, column.tolist(), strict=True)) for name, column in columns.items()}
    return {"seconds": seconds, "imports": imports, "images": len(names), "scores": scores}


def data_juicer(folder: Path, process: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of a recipe: opening the data, the operators, the export of what was kept."""
    _torchvision_without_cuda()
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor

    files = sorted(folder.iterdir())
    work = folder.parent / "data_juicer"
    work.mkdir(exist_ok=True)
    lines = (json.dumps({"text": path.name, "images": [str(path)]}) for path in files)
    (work / "data.jsonl").write_text("\n".join(lines))
    recipe = {
        "dataset_path": str(work / "data.jsonl"),
        "export_path": str(work / "kept.jsonl"),
        "text_keys": "text",
        "image_key": "images",
        "np": 2,
        "use_cache": False,
        "op_fusion": True,
        "fusion_strategy": "greedy",
        "process": process,
    }
    (work / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    imports, started = time.process_time(), time.perf_counter()
    DefaultExecutor(init_configs(["--config", str(work / "recipe.yaml")])).run()
    return {"seconds": time.perf_counter() - started, "imports": imports, "images": len(files)}


def _torchvision_without_cuda() -> None:
    """Let a torchvision built for CUDA import beside a torch that is not, by two operators it then misses.

    data-juicer's pHash comes from imagededup, whose import wants torchvision; nothing here calls them.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


CONTENDERS = {
    "cleanvision": lambda folder: cleanvision(folder, ()),
    "cleanvision-properties": lambda folder: cleanvision(folder, PROPERTIES),
    "data-juicer-shape": lambda folder: data_juicer(folder, SHAPES),
    "data-juicer-subplot": lambda folder: data_juicer(folder, [*SHAPES, SUBPLOT]),
    "data-juicer-phash": lambda folder: data_juicer(folder, [*SHAPES, PHASH]),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contender", nargs="?", choices=CONTENDERS)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("result", nargs="?", type=Path)
    args = parser.parse_args()
    if args.result is None:
        print("run by benchmarks/filter.py --peers PYTHON")
        return
    found = CONTENDERS[args.contender](args.folder)
    packages = ("cleanvision", "py-data-juicer", "imagededup", "torch", "pillow", "datasets")
    found["versions"] = {name: version(name) for name in packages}
    args.result.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
