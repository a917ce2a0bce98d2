"""The registry of embedders, unit vectors, and the CLIP that ships."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infinity_mm.models.embedder import EMBEDDERS, find_embedder, open_embedder, unit


def noise(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_what_is_no_embedder_is_said() -> None:
    with pytest.raises(ValueError, match=r"no embedder 'opneclip:x': name one as .*did you mean 'open_clip'"):
        find_embedder("opneclip:x")
    for kind in EMBEDDERS:
        with pytest.raises(ValueError, match="name one as open_clip:MODEL/PRETRAINED, hf:ID_OR_FOLDER"):
            find_embedder(f"no {kind}")


@given(arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_unit_rows_have_length_one_or_are_nan(rows: np.ndarray) -> None:
    found = unit(rows)
    for row, made in zip(rows, found, strict=True):
        if np.isfinite(row).all() and row.any():
            assert np.isclose(np.linalg.norm(made.astype(np.float64)), 1)
        else:
            assert np.isnan(made).all()


def test_tiny_embeds_pictures_of_any_size_and_texts() -> None:
    embedder = open_embedder("tiny", "cpu")
    pictures = [noise(0), noise(1, 30, 90), noise(2, 200, 128)]
    found, told = embedder.images(pictures), embedder.texts(["a red circle", "", "红色的圆形" * 99])
    for vectors in (found, told):
        assert (vectors.shape, vectors.dtype) == ((3, embedder.dim), np.float32)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(embedder.images(pictures[1:2])[0], found[1], atol=1e-4)
    assert (embedder.spec, embedder.device, embedder.dtype) == ("tiny", "cpu", "float32")
    assert embedder.texts([]).shape == embedder.images([]).shape == (0, embedder.dim)


def test_tiny_is_about_2_mb_and_takes_no_argument() -> None:
    from infinity_mm.models.open_clip_models import TINY

    assert sum(file.stat().st_size for file in TINY.iterdir()) < 3_000_000
    with pytest.raises(ValueError, match="it is just `tiny`"):
        find_embedder("tiny:x")


def test_a_device_that_is_not_there() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="give cpu, cuda or cuda:N"):
        find_embedder("tiny", "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no GPU here; give cpu"):
            find_embedder("tiny", "cuda")


def test_the_key_has_model_dtype_device_class_and_versions() -> None:
    digest, dtype, device, versions = find_embedder("tiny", "cpu").key()
    assert (len(digest), dtype, device) == (16, "float32", "cpu")
    assert set(versions) == {"torch", "open_clip_torch"}
