"""Embedders as ONNX graphs: one picture in, one vector out.

    onnx:FILE                                pictures as (x - 128) / 128, the output named embedding
    onnx:FILE?mean=123.7,116.3,103.5&std=58.4,57.1,57.4&output=features&size=224

The layout (NCHW, NHWC), the size and the number of pictures in a batch are read off the graph's input. A
picture is resized to the size as it is, whatever its proportions, by bicubic interpolation: of the filters it
keeps copies of a photograph in other sizes closest. `mean` and `std` are of levels 0 to 255, one number or
three, for red, green and blue; a graph of uint8 takes levels as they are. `size` is for graphs of any size.
"""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np

from infinity_mm.models.embedder import Found, Model, Pixels
from infinity_mm.store import file_digest

OPTIONS = ("mean", "std", "output", "size")
LEVELS = (128.0, 128.0)  # mean and standard deviation
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class Graph(NamedTuple):
    """What a graph takes and gives. `batch`: pictures at once, None for any number."""

    input: str
    output: str
    kind: Any
    channels_first: bool
    height: int
    width: int
    batch: int | None


def find(rest: str, device: str | None) -> Found:
    """What `onnx:` names. Raises ValueError."""
    spec = f"onnx:{rest}"
    path, _, query = rest.partition("?")
    file, options = Path(path), _options(spec, query)
    if not file.is_file():
        raise ValueError(f"embedder {spec}: there is no file {path!r}")
    runtime = _library(spec)
    gpu = "CUDAExecutionProvider" in runtime.get_available_providers()
    place = device or ("cuda" if gpu else "cpu")
    if place.partition(":")[0] not in ("cpu", "cuda") or (place != "cpu" and not gpu):
        raise ValueError(f"embedder {spec}: no device {place!r} here; give cpu, or install onnxruntime-gpu")
    graph = _graph(spec, _session(spec, file, "cpu", 1), options)
    return Found(
        spec,
        content=lambda: [file_digest(str(file)), sorted(options.items())],
        libraries=("onnxruntime",),
        device=place,
        dtype=np.dtype(graph.kind).name if graph.kind != np.uint8 else "float32",
        side=min(graph.height, graph.width),
        has_texts=False,
        load=lambda threads: _load(spec, file, options, graph, place, threads),
    )


def _library(spec: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(
            f"embedder {spec} needs onnxruntime: pip install 'infinity-mm[models]', or onnxruntime-gpu"
        ) from None
    return onnxruntime


def _options(spec: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ValueError(f"embedder {spec}: unknown option {unknown[0]!r}; they are {', '.join(OPTIONS)}")
    return options


def _session(spec: str, file: Path, device: str, threads: int | None) -> Any:
    runtime = _library(spec)
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    if threads is not None:
        settings.intra_op_num_threads = settings.inter_op_num_threads = threads
    cuda = [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)})]
    providers = [*(cuda if device != "cpu" else []), "CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(str(file), settings, providers=providers)
    except Exception as error:  # the runtime's errors have no base class but this
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"embedder {spec}: onnxruntime can't load it: {said}") from None


def _graph(spec: str, session: Any, options: dict[str, str]) -> Graph:
    """Raises ValueError for a graph that takes no batch of pictures, or gives no vector for each."""
    pictures = [i for i in session.get_inputs() if len(i.shape) == 4]
    if len(session.get_inputs()) != 1 or not pictures or pictures[0].type not in TYPES:
        took = ", ".join(f"{i.name} {i.type} {i.shape}" for i in session.get_inputs())
        raise ValueError(
            f"embedder {spec}: it takes {took}; one batch of pictures is wanted, with four dimensions, of "
            f"{', '.join(TYPES)}"
        )
    taken = pictures[0]
    shape = taken.shape
    if shape[1] != 3 and shape[3] != 3:
        raise ValueError(f"embedder {spec}: its input {shape} has no dimension of 3 colours")
    first = shape[1] == 3
    sides = shape[2:] if first else shape[1:3]
    size = _number(spec, options, "size")
    known = [side for side in sides if isinstance(side, int)]
    if len(known) < 2 and size is None:
        raise ValueError(f"embedder {spec}: its input {shape} has any size: give one, such as ?size=224")
    if len(known) == 2 and size is not None and known != [size, size]:
        raise ValueError(f"embedder {spec}: its input is {known[0]} by {known[1]}, not size={size}")
    if taken.type == "tensor(uint8)" and {"mean", "std"} & set(options):
        raise ValueError(f"embedder {spec}: it takes levels as they are: leave mean and std out")
    height, width = (side if isinstance(side, int) else size for side in sides)
    assert height is not None and width is not None
    given = session.get_outputs()
    names = [o.name for o in given]
    wanted = options.get("output")
    if wanted is not None and wanted not in names:
        raise ValueError(f"embedder {spec}: no output {wanted!r}; they are {', '.join(names)}")
    if wanted is None:
        flat = [o.name for o in given if len(o.shape) == 2]
        wanted = "embedding" if "embedding" in names else next(iter(flat), None)
    if wanted is None:
        raise ValueError(
            f"embedder {spec}: no output is [batch, dim]: give one, ?output={names[0]}, of {', '.join(names)}"
        )
    batch = shape[0] if isinstance(shape[0], int) else None
    return Graph(taken.name, wanted, TYPES[taken.type], first, height, width, batch)


def _number(spec: str, options: dict[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"embedder {spec}: {name}={text!r} is no number of pixels")
    return int(text)


def _levels(spec: str, options: dict[str, str], name: str, default: float) -> np.ndarray:
    """float32 [3]."""
    text = options.get(name, str(default))
    try:
        values = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        values = np.zeros(0, np.float32)
    if len(values) not in (1, 3) or not np.isfinite(values).all() or (name == "std" and (values <= 0).any()):
        raise ValueError(
            f"embedder {spec}: {name}={text!r}: give one number of levels, or three: 128,128,128"
        )
    return np.broadcast_to(values, (3,)).copy()


def _load(
    spec: str, file: Path, options: dict[str, str], graph: Graph, device: str, threads: int | None
) -> Model:
    from PIL import Image

    session = _session(spec, file, device, threads)
    mean = _levels(spec, options, "mean", LEVELS[0])
    std = _levels(spec, options, "std", LEVELS[1])

    def prepare(pixels: Pixels) -> np.ndarray:
        size = (graph.width, graph.height)
        image_HWC = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        if graph.kind != np.uint8:
            image_HWC = ((image_HWC - mean) / std).astype(graph.kind)
        return np.ascontiguousarray(image_HWC.transpose(2, 0, 1)) if graph.channels_first else image_HWC

    def pictures(batch: np.ndarray) -> np.ndarray:
        step = graph.batch or len(batch)
        return np.concatenate([_run(batch[at : at + step], step) for at in range(0, len(batch), step)])

    def _run(part: np.ndarray, step: int) -> np.ndarray:
        full = (
            part if len(part) == step else np.concatenate([part, np.repeat(part[-1:], step - len(part), 0)])
        )
        found = session.run([graph.output], {graph.input: full})[0]
        return np.asarray(found).reshape(step, -1)[: len(part)]

    colours = (3, graph.height, graph.width) if graph.channels_first else (graph.height, graph.width, 3)
    dim = pictures(np.zeros((1, *colours), graph.kind)).shape[1]
    return Model(dim, np.dtype(graph.kind).name, prepare, pictures, None)
