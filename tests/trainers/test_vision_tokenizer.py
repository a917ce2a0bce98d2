"""Training a vision tokenizer: it learns, a killed run goes on with the same numbers, terms by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_vq import random_vq

from infinity_mm.models.emu3_vq import VisionTokenizer, facts_of, find_tokenizer
from trainers import tiny_vq as recipe
from trainers.codebook import Quantised
from trainers.scene_pictures import SIDE, Wanted, draw_batch
from trainers.vision_tokenizer import Batch, Seen, Settings, commitment, l2, losses, save, scores, train

SMALL = Wanted(pictures=4, clips=1, chunk=4, foreground=4.0)


def drawn(step: int, of: Wanted = SMALL) -> Batch:
    """A batch of scenes at half their size."""
    whole = draw_batch(of, (5, step))
    return Batch(
        whole.pictures[:, ::2, ::2], whole.clips[:, :, ::2, ::2],
        whole.picture_weights[:, ::2, ::2], whole.clip_weights[:, :, ::2, ::2],
    )  # fmt: skip


def batches(first: int) -> Iterator[Batch]:
    step = first
    while True:
        yield drawn(step)
        step += 1


def opened(vq: Any) -> VisionTokenizer:
    fields = {name: getattr(vq.config, name) for name in vq.config.to_dict() if hasattr(vq.config, name)}
    return VisionTokenizer(vq, facts_of(fields, vq.state_dict()), "cpu")


def settings(**more: Any) -> Settings:
    return Settings(**{"steps": 30, "rate": 3e-3, "warmup": 5, "save": 10} | more)


def test_a_few_steps_help_and_use_is_told(tmp_path: Path) -> None:
    vq, lines = random_vq(), []
    held = drawn(10_000, Wanted(16, 2, 4, 1.0))
    before = scores(opened(vq), held.pictures, held.clips)
    norms = {n: b.clone() for n, b in vq.named_buffers() if "running" in n or "tracked" in n}
    train(vq, batches, settings(), tmp_path, lines.append)
    after = scores(opened(vq), held.pictures, held.clips)
    assert after["pictures"]["psnr"] > before["pictures"]["psnr"] + 4
    assert after["clips"]["psnr"] > before["clips"]["psnr"] + 1
    assert all(torch.equal(norms[n], b) for n, b in vq.named_buffers() if n in norms)
    [line] = lines
    for said in ("step     30", "l2 0.", "commitment 0.", "pictures", "clips", "perplexity", "revived"):
        assert said in line


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_a_run_goes_on_with_the_same_numbers(tmp_path: Path, codebook: Any) -> None:
    terms = {"l2": 1.0, "commitment": 0.25} | ({"codebook": 1.0} if codebook == "gradient" else {})
    given = settings(steps=6, save=3, codebook=codebook, terms=terms)
    calm = train(random_vq(), batches, given, tmp_path / "calm", lambda _: None).state_dict()

    def short(first: int) -> Iterator[Batch]:
        for step in range(first, 4):
            yield drawn(step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(random_vq(), short, given, tmp_path / "stopped", lambda _: None)
    lines: list[str] = []
    again = train(random_vq(), batches, given, tmp_path / "stopped", lines.append).state_dict()
    assert lines[0] == "goes on after step 3"
    assert all(torch.equal(calm[name], again[name]) for name in calm)
    assert not torch.equal(calm["quantize.embedding.weight"], random_vq().quantize.embedding.weight)
    with pytest.raises(ValueError, match="checkpoints of another training"):
        train(random_vq(), batches, settings(steps=7), tmp_path / "stopped", lambda _: None)


def seen(made: list[float], true: list[float], weights: list[float]) -> Seen:
    def frames(values: list[float], channels: int) -> torch.Tensor:
        return torch.tensor(values).reshape(1, 1, 1, 1, -1).expand(-1, -1, channels, -1, -1)

    latents = torch.tensor([[[[[1.0, 2.0]]]]])
    nearest = torch.tensor([[[[[1.0, 0.0]]]]])
    return Seen(
        frames(made, 3), frames(true, 3), frames(weights, 1), latents,
        Quantised(nearest, nearest, torch.zeros(1, 1, 1, 1, dtype=torch.long)),
    )  # fmt: skip


def test_terms_by_hand() -> None:
    one = seen([0.0, 1.0], [0.0, 0.0], [1.0, 3.0])
    assert l2(one).item() == pytest.approx(3 / 4)
    assert commitment(one).item() == pytest.approx(2)
    total, told = losses({"pictures": one}, {"l2": 2.0, "commitment": 0.5})
    assert total.item() == pytest.approx(2.5)
    assert told == {"l2": pytest.approx(0.75), "commitment": pytest.approx(2)}


def test_settings_that_can_t_be_are_refused() -> None:
    with pytest.raises(ValueError, match="no term 'lpips'; there are l2"):
        settings(terms={"lpips": 1.0})
    with pytest.raises(ValueError, match="needs the term 'codebook'"):
        settings(codebook="gradient")


def test_scenes_have_their_foreground_told() -> None:
    one = draw_batch(Wanted(6, 2, 4, 5.0), (1, 2))
    assert one.pictures.shape == (6, SIDE, SIDE, 3) and one.clips.shape == (2, 4, SIDE, SIDE, 3)
    assert set(np.unique(one.picture_weights)) == set(np.unique(one.clip_weights)) == {1.0, 5.0}
    assert 0.02 < (one.picture_weights > 1).mean() < 0.5
    again, other = draw_batch(Wanted(6, 2, 4, 5.0), (1, 2)), draw_batch(Wanted(6, 2, 4, 5.0), (1, 3))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.pictures, other.pictures)
    assert draw_batch(Wanted(0, 0, 4, 5.0), (1, 2)).pictures.shape == (0, SIDE, SIDE, 3)


def test_what_is_saved_opens_in_transformers(tmp_path: Path) -> None:
    from transformers import Emu3VQVAE

    vq = recipe.network(0)
    save(vq, tmp_path, SIDE * SIDE, torch.float16)
    again, told = Emu3VQVAE.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    assert (tmp_path / "model.safetensors").stat().st_size < 4_000_000
    tokenizer = find_tokenizer(tmp_path).load("cpu")
    assert (tokenizer.facts.codebook, tokenizer.facts.factor, tokenizer.facts.chunk) == (512, 8, 4)
    pixels = draw_batch(Wanted(2, 0, 4, 1.0), (3,)).pictures
    codes = tokenizer.encode_pictures(pixels)
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        theirs = again.float().encode(scaled, torch.tensor([[64, 64]] * 2)).image_tokens
    assert (torch.stack(list(theirs)).numpy() == codes).all()
