"""The tiny CLIP: what ships tells true captions from false ones; its command writes what it trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from infinity_mm.models.embedder import open_embedder, unit
from infinity_mm.models.open_clip_models import TINY, WEIGHTS
from trainers import tiny_clip
from trainers.tiny_clip import (
    BATCH,
    PAIRS,
    Settings,
    area_under_curve,
    draw_batch,
    save,
    show,
    tell,
    train,
)  # fmt: skip

SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(np.array)


@given(SCORES, SCORES)
def test_the_area_is_the_share_of_pairs_in_order(true: np.ndarray, false: np.ndarray) -> None:
    above = (true[:, None] > false).sum() + 0.5 * (true[:, None] == false).sum()
    assert area_under_curve(true, false) == pytest.approx(above / (len(true) * len(false)))


def test_a_batch_is_the_same_for_the_same_step() -> None:
    one, two = draw_batch(3, 5), draw_batch(3, 5)
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.tokens, two.tokens)
    assert one.images.shape == (BATCH, 64, 64, 3)
    assert len(one.tokens) == BATCH * PAIRS * 2
    assert not np.array_equal(draw_batch(3, 6).images, one.images)


# What `python -m trainers.tiny_clip` printed of the shipped weights, less what chance makes of 100 pairs.
LEAST = {
    "colour": 0.95, "shape": 0.82, "size": 0.94, "count": 0.95, "corner": 0.78, "text": 0.8,
    "text colour": 0.95, "chart": 0.9, "answer": 0.7, "false_caption: chart": 0.88,
    "false_caption: colour": 0.9, "false_caption: count": 0.9, "false_caption: shape": 0.7,
    "false_caption: text": 0.8,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return tell(open_embedder("tiny", "cpu"), seed=91, pairs=100)


def test_what_ships_tells_true_captions_from_false_ones(told: dict[str, Any]) -> None:
    for kind, least in LEAST.items():
        assert told[kind].area > least, show(told)
    assert all(abs(t.blind - 0.5) < 0.12 for t in told.values()), show(told)


def test_the_command_writes_what_it_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(tiny_clip, "batches", lambda s: (draw_batch(s.seed, i) for i in range(s.steps)))
    models = [train(Settings(steps=3, seed=5, threads=1), every=1) for _ in range(2)]
    for model, name in zip(models, "ab", strict=True):
        save(model, tmp_path / name)
    one, two = ((tmp_path / name / WEIGHTS[0]).read_bytes() for name in "ab")
    assert one == two
    assert {file.name for file in (tmp_path / "a").iterdir()} == {file.name for file in TINY.iterdir()}
    embedder = open_embedder(f"open_clip:{tmp_path / 'a'}", "cpu")
    batch = draw_batch(5, 9)
    with torch.inference_mode():
        features = models[0].encode_image(tiny_clip._tensor(batch.images)).numpy()
    assert np.allclose(embedder.images(list(batch.images)), unit(features), atol=2e-2)


def test_texts_are_encoded_as_open_clip_does() -> None:
    import torch

    from infinity_mm.models.torchvision_ops import import_torchvision

    import_torchvision()
    from open_clip.model import CLIP

    model = CLIP(**tiny_clip.MODEL).eval()
    tokens = draw_batch(1, 1).tokens
    padded = np.zeros((len(tokens), tiny_clip.CONTEXT), np.int64)
    padded[:, : tokens.shape[1]] = tokens
    with torch.inference_mode():
        assert torch.allclose(
            tiny_clip._texts(model, tokens), model.encode_text(torch.from_numpy(padded)), atol=1e-5
        )
