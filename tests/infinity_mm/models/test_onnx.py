"""ONNX embedders: layouts, sizes, batches, types and options are read off the graph or said in one line."""

from pathlib import Path

import numpy as np
import pytest
from onnx_file import FLOAT16, UINT8, mean_of_rows
from PIL import Image

from infinity_mm.models.embedder import find_embedder, open_embedder


def noise(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def graph(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(*args: object, name: str = "g.onnx", **more: object) -> str:
        (tmp_path / name).write_bytes(mean_of_rows(*args, **more))  # type: ignore[arg-type]
        return f"onnx:{tmp_path / name}"

    return write


def wanted(pixels: np.ndarray, side: int = 8, mean: float = 128, std: float = 128) -> np.ndarray:
    """What the graph of NCHW pictures gives for a picture: its columns' means a colour, of unit length."""
    image = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC), np.float64)
    rows = ((image - mean) / std).transpose(2, 0, 1).mean(axis=1).reshape(-1)
    return rows / np.linalg.norm(rows)


def test_nchw_with_any_batch(graph) -> None:  # type: ignore[no-untyped-def]
    embedder = open_embedder(graph(["n", 3, 8, 8]))
    pictures = [noise(i) for i in range(5)]
    found = embedder.images(pictures)
    assert (embedder.dim, embedder.dtype, embedder.device, embedder.min_side) == (24, "float32", "cpu", 16)
    assert found.dtype == np.float32
    assert np.allclose(found, [wanted(p) for p in pictures], atol=1e-5)
    assert embedder.images([]).shape == (0, 24)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_gives_the_same(graph, batch: int) -> None:  # type: ignore[no-untyped-def]
    pictures = [noise(i) for i in range(5)]
    assert np.array_equal(
        open_embedder(graph([batch, 3, 8, 8], name="a.onnx")).images(pictures),
        open_embedder(graph(["n", 3, 8, 8], name="b.onnx")).images(pictures),
    )


def test_nhwc_and_half_precision(graph) -> None:  # type: ignore[no-untyped-def]
    pictures = [noise(i) for i in range(3)]
    found = open_embedder(graph(["n", 8, 8, 3], axes=(1,), name="a.onnx")).images(pictures)
    columns_first = [wanted(p).reshape(3, 8).T.reshape(-1) for p in pictures]
    assert np.allclose(found, columns_first, atol=1e-5)
    half = open_embedder(graph(["n", 3, 8, 8], kind=FLOAT16, name="b.onnx"))
    assert half.dtype == "float16"
    assert np.allclose(half.images(pictures), [wanted(p) for p in pictures], atol=5e-3)


def test_uint8_takes_levels(graph) -> None:  # type: ignore[no-untyped-def]
    spec = graph(["n", 3, 8, 8], kind=UINT8)
    assert np.allclose(open_embedder(spec).images([noise(1)])[0], wanted(noise(1), mean=0, std=1), atol=1e-5)
    with pytest.raises(ValueError, match="takes levels as they are"):
        find_embedder(f"{spec}?mean=0")


def test_options(graph) -> None:  # type: ignore[no-untyped-def]
    spec = graph(["n", 3, "h", "w"], outputs=("all", "features"))
    with pytest.raises(ValueError, match=r"any size: give one, such as \?size=224"):
        find_embedder(spec)
    found = open_embedder(f"{spec}?size=8&mean=100,100,100&std=50&output=features")
    assert np.allclose(found.images([noise(3)])[0], wanted(noise(3), 8, 100, 50), atol=1e-5)
    assert open_embedder(f"{spec}?size=8").dim == 24  # the first output with a row a picture
    assert open_embedder(f"{spec}?size=8&output=all").dim == 192
    assert find_embedder(f"{spec}?size=8").digest != find_embedder(f"{spec}?size=16").digest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("?mena=3", "unknown option 'mena'; they are mean, std, output, size"),
        ("?size=nine", "is no number of pixels"),
        ("?size=9", "its input is 8 by 8, not size=9"),
        ("?output=logits", "no output 'logits'; they are embedding"),
        ("?mean=1,2", "give one number of levels, or three"),
        ("?std=0", "give one number of levels, or three"),
    ],
)
def test_wrong_options(graph, options: str, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        open_embedder(graph(["n", 3, 8, 8]) + options)


def test_what_is_no_graph_of_pictures(graph, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="there is no file"):
        find_embedder(f"onnx:{tmp_path}/none.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ValueError, match="onnxruntime can't load it"):
        find_embedder(f"onnx:{tmp_path}/text.onnx")
    with pytest.raises(ValueError, match="has no dimension of 3 colours"):
        find_embedder(graph(["n", 4, 8, 8]))
    with pytest.raises(ValueError, match="one batch of pictures is wanted"):
        find_embedder(graph(["n", 3, 8], axes=(2,)))


def test_a_picture_without_direction_and_texts_are_errors(graph) -> None:  # type: ignore[no-untyped-def]
    embedder = open_embedder(graph(["n", 3, 8, 8]))
    grey = np.full((8, 8, 3), 128, np.uint8)
    with pytest.raises(ValueError, match="gave zeros or NaN for picture 1"):
        embedder.images([noise(1), grey])
    with pytest.raises(ValueError, match="embeds pictures only"):
        embedder.texts(["a"])


def test_the_digest_is_of_content(graph, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one = graph(["n", 3, 8, 8], name="one.onnx")
    assert find_embedder(one).digest == find_embedder(graph(["n", 3, 8, 8], name="two.onnx")).digest
    assert find_embedder(one).digest != find_embedder(graph(["n", 3, 9, 9], name="three.onnx")).digest


def test_mobilenet_finds_the_same_photograph(shared_weights: Path, shared_data: Path) -> None:
    import json

    from infinity_mm.media.decode import decode_image

    file = shared_weights / "derived" / "mobilenet_v1_0.25_128_quant.derived.onnx"
    embedder = open_embedder(f"onnx:{file}")
    rows = [json.loads(line) for line in (shared_data / "flickr8k_alt.jsonl").read_text().splitlines()[:24]]
    one, two = (
        embedder.images([decode_image((shared_data / row[key]).read_bytes()).pixels for row in rows])
        for key in ("image", "duplicate_of")
    )
    cosines = one @ two.T
    assert np.diag(cosines).min() > 0.9
    assert (cosines - 2 * np.eye(len(rows))).max() < 0.87
