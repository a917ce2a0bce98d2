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
from trainers.scene_batches import CONTEXT, Batch, Stage, draw_batch
from trainers.tiny_clip import STAGES, Settings, area_under_curve, save, show, tell, train

SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(np.array)


@given(SCORES, SCORES)
def test_the_area_is_the_share_of_pairs_in_order(true: np.ndarray, false: np.ndarray) -> None:
    above = (true[:, None] > false).sum() + 0.5 * (true[:, None] == false).sum()
    assert area_under_curve(true, false) == pytest.approx(above / (len(true) * len(false)))


# What `python -m trainers.tiny_clip` printed of the shipped weights, less what chance makes of 100 pairs.
LEAST = {
    "colour": 0.95, "shape": 0.95, "size": 0.9, "count": 0.92, "owners": 0.87, "relation": 0.83,
    "corner": 0.97, "text": 0.9, "text colour": 0.95, "chart": 0.97, "answer": 0.77,
    "false_caption: chart": 0.97, "false_caption: colour": 0.9, "false_caption: count": 0.88,
    "false_caption: shape": 0.9, "false_caption: text": 0.9,
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


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches drawn in this process."""

    def drawn(stages: tuple[Stage, ...], seed: int) -> Iterator[Batch]:
        for number, stage in enumerate(stages):
            yield from (draw_batch(stage, (seed, number, step)) for step in range(stage.steps))

    monkeypatch.setattr(tiny_clip, "batches", drawn)


def short(*names: str) -> Settings:
    return Settings(5, 1, tuple(stage._replace(steps=1) for stage in STAGES if stage.name in names))


@pytest.mark.usefixtures("here")
def test_the_command_writes_what_it_trained(tmp_path: Path) -> None:
    import torch

    models = [train(short("texts", "pictures", "binding", "all")) for _ in range(2)]
    for model, name in zip(models, "ab", strict=True):
        save(model, tmp_path / name)
    one, two = ((tmp_path / name / WEIGHTS[0]).read_bytes() for name in "ab")
    assert one == two
    assert {file.name for file in (tmp_path / "a").iterdir()} == {file.name for file in TINY.iterdir()}
    embedder = open_embedder(f"open_clip:{tmp_path / 'a'}", "cpu")
    batch = draw_batch(STAGES[-1], (5, 9))
    with torch.inference_mode():
        features = models[0].encode_image(tiny_clip._tensor(batch.images)).numpy()
    assert np.allclose(embedder.images(list(batch.images)), unit(features), atol=2e-2)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("stage", "learns"), [("texts", {"text"}), ("pictures", {"visual"}), ("binding", {"text", "visual"})]
)
def test_a_stage_trains_the_towers_it_shows_something(stage: str, learns: set[str]) -> None:
    start, end = (train(short(*names)).state_dict() for names in ((), (stage,)))
    moved = {name for name in start if not start[name].equal(end[name])}
    assert {"visual" if name.startswith("visual.") else "text" for name in moved - {"logit_scale"}} == learns
    assert ("logit_scale" in moved) == (len(learns) == 2)


@pytest.mark.usefixtures("here")
def test_what_is_printed_of_a_stage_is_all_it_learns_by(capsys: pytest.CaptureFixture[str]) -> None:
    train(short("texts", "pictures", "all"))
    told = [line.split("  scale")[0].split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[2::2]) for line in told] == [
        ("texts", ["told"]),
        ("pictures", ["shown"]),
        ("all", ["shown", "told", "truth", "order", "matching"]),
    ]


def test_facts_that_are_unsaid_do_not_count() -> None:
    import torch

    logits = torch.tensor([[0.0, 5.0, -3.0], [1.0, 0.0, 0.0]])
    loss = tiny_clip._by_facts(logits, np.array([[1, -1, -1], [-1, 0, 1]], np.int8))
    assert loss.item() == pytest.approx(3 * np.log(2) / 2)


def test_texts_are_encoded_as_open_clip_does() -> None:
    import torch

    from infinity_mm.models.torchvision_ops import import_torchvision

    import_torchvision()
    from open_clip.model import CLIP

    model = CLIP(**tiny_clip.MODEL).eval()
    tokens = draw_batch(STAGES[-1], (1, 1)).tokens
    padded = np.zeros((len(tokens), CONTEXT), np.int64)
    padded[:, : tokens.shape[1]] = tokens
    with torch.inference_mode():
        assert torch.allclose(
            tiny_clip._texts(model, tokens), model.encode_text(torch.from_numpy(padded)), atol=1e-5
        )
