"""The warm-up of the tiny VLM's tower: truth is where the picture has it, and a tower is what it writes."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from infinity_mm.scenes.world import COLOURS, draw_shapes
from trainers.tiny_tower import (
    ALONG,
    ASKED,
    BATCH,
    GEOMETRY,
    PARTS,
    SIDE,
    Settings,
    draw_batch,
    save,
    train,
    truth_of,
)


def test_each_patch_of_the_grid_is_told_the_object_of_its_cell() -> None:
    """By the colour in the middle of an object's two by two patches."""
    batch = draw_batch(1, 0)
    side, patch = GEOMETRY.side, GEOMETRY.patch
    assert batch.tiles.shape == (5 * BATCH, 3, side, side)
    truth = batch.truth.reshape(BATCH, 5, side // patch, side // patch, len(ASKED))
    right, objects = 0, 0
    for number, tile, row, column in np.argwhere(truth[:, 1:, ::2, ::2, 0]).tolist():
        cell = truth[number, 1 + tile, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, 0]
        assert (cell == cell[0, 0]).all()
        pixels = batch.tiles.reshape(BATCH, 5, 3, side, side)[number, 1 + tile]
        middle = pixels[:, (2 * row + 1) * patch, (2 * column + 1) * patch].astype(int)
        right += np.abs(middle - COLOURS[PARTS["colour"][cell[0, 0] - 1]]).max() < 60
        objects += 1
    assert objects > 2 * BATCH and right > 0.95 * objects


def test_the_base_tile_and_the_grid_tell_the_same() -> None:
    scene = draw_shapes(np.random.default_rng(5), SIDE, 4)
    base, *grid = truth_of(scene).reshape(5, ALONG, ALONG, len(ASKED))[..., : len(PARTS)]
    whole = np.concatenate([np.concatenate(grid[:2], axis=1), np.concatenate(grid[2:], axis=1)])
    assert np.array_equal(whole[::2, ::2], base) and np.array_equal(whole[1::2, 1::2], base)
    assert (base[..., 0] > 0).sum() == 4


def test_each_patch_is_told_where_in_its_tile_it_lies() -> None:
    places = draw_batch(1, 0).truth.reshape(BATCH, 5, ALONG, ALONG, len(ASKED))[..., len(PARTS) :]
    for row in range(ALONG):
        for column in range(ALONG):
            assert (places[:, :, row, column] == [row, column]).all()


def test_a_batch_is_the_same_for_the_same_step() -> None:
    one, two = draw_batch(3, 5), draw_batch(3, 5)
    assert np.array_equal(one.tiles, two.tiles) and np.array_equal(one.truth, two.truth)
    assert not np.array_equal(draw_batch(3, 6).tiles, one.tiles)


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
    assert (composition.side, composition.patch) == (GEOMETRY.side, GEOMETRY.patch)
    built = composition.build(torch.float32, 0).vision_tower.state_dict()
    for name, value in tower.state_dict().items():
        [same] = [k for k in built if k.endswith(name.removeprefix("vision_model."))]
        assert torch.equal(built[same], value), name
