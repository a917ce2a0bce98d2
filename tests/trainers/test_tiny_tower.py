"""The warm-up of the tiny VLM's tower: truth is where the picture has it, and a tower is what it writes."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from infinity_mm.scenes.world import COLOURS, GRID, draw_shapes
from trainers.tiny_tower import (
    ASKED,
    BATCH,
    PARTS,
    SIDE,
    Settings,
    draw_batch,
    save,
    train,
    truth_of,
)


def test_each_patch_is_told_the_object_it_holds_and_where_it_lies() -> None:
    """By the colour in the middle of the patch."""
    batch = draw_batch(1, 0)
    assert batch.pixels.shape == (BATCH, 3, SIDE, SIDE)
    truth = batch.truth.reshape(BATCH, GRID, GRID, len(ASKED))
    right, objects, patch = 0, 0, SIDE // GRID
    for number, row, column in np.argwhere(truth[..., 0]).tolist():
        middle = batch.pixels[number, :, row * patch + patch // 2, column * patch + patch // 2].astype(int)
        colour = PARTS["colour"][truth[number, row, column, 0] - 1]
        right += np.abs(middle - COLOURS[colour]).max() < 60
        objects += 1
        assert truth[number, row, column, len(PARTS) :].tolist() == [row, column]
    assert objects > 2 * BATCH and right > 0.9 * objects


def test_the_truth_names_every_object() -> None:
    scene = draw_shapes(np.random.default_rng(5), SIDE, 4)
    held = truth_of(scene)[:, : len(PARTS)]
    told = sorted(
        [of[value - 1] for of, value in zip(PARTS.values(), row, strict=True)] for row in held[held[:, 0] > 0]
    )
    assert told == sorted([thing.colour, thing.shape, thing.size] for thing in scene.things)


def test_a_batch_is_the_same_for_the_same_step() -> None:
    one, two = draw_batch(3, 5), draw_batch(3, 5)
    assert np.array_equal(one.pixels, two.pixels) and np.array_equal(one.truth, two.truth)
    assert not np.array_equal(draw_batch(3, 6).pixels, one.pixels)


def test_it_writes_a_tower_that_a_recipe_takes(tmp_path: Path) -> None:
    import torch

    from trainers.llava.compose import compose

    threads = torch.get_num_threads()
    tower = train(Settings(steps=2, seed=1, threads=1))
    torch.set_num_threads(threads)
    save(tower, tmp_path / "tower")
    language = {
        "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "tie_word_embeddings": True,
    }  # fmt: skip
    composition = compose(str(tmp_path / "tower"), language, tokenizer="tiny", feature_layer=-1)
    assert (composition.side, composition.patch) == (SIDE, SIDE // GRID)
    built = composition.build(torch.float32, 0).vision_tower.state_dict()
    for name, value in tower.state_dict().items():
        [same] = [k for k in built if k.endswith(name.removeprefix("vision_model."))]
        assert torch.equal(built[same], value), name
