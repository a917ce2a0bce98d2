"""The model against transformers' LlavaOnevision on the same weights, and packs of documents."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_llava import LANGUAGE, TOWER, Piece, composition, pack

from infinity_mm.image_tokens import Geometry, Visual
from trainers.llava import hub_layout
from trainers.llava.model import Llava

SIZES = [(32, 32), (64, 32), (1, 90), (90, 1), (33, 31), (200, 77), (77, 200), (96, 96), (500, 350), (96, 95)]
CLIP = {**TOWER, "model_type": "clip_vision_model"}
LLAMA = {**LANGUAGE, "model_type": "llama", "tie_word_embeddings": True}
PARTS = {"siglip + qwen2": (TOWER, LANGUAGE), "clip + llama": (CLIP, LLAMA)}


@pytest.fixture(scope="module", params=PARTS.values(), ids=PARTS.keys())
def both(request: pytest.FixtureRequest) -> tuple[Llava, Any]:
    """The model, and theirs with its weights."""
    tower, language = request.param
    made = composition(tower=tower, language=language)
    model = made.build(seed=1).eval()
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    said = hub_layout.configuration(
        model, image_token_id=made.tokens.image, video_token_id=made.tokens.video, dtype=torch.float32
    )
    theirs = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(**said)).eval()
    names = hub_layout.weights(model)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(names[in_hub(name, names)])
    return model, theirs


def in_hub(name: str, names: dict[str, torch.Tensor]) -> str:
    """The hub's name of one of their parameters."""
    for old, new in (
        ("model.language_model.", "language_model.model."),
        ("lm_head", "language_model.lm_head"),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.", ""),
    ):
        if name.startswith(old):
            found = name.replace(old, new, 1)
            return found if found in names else found.replace("vision_model.vision_model.", "vision_model.")
    raise KeyError(name)


@torch.no_grad()
def logits(theirs: Any, piece: Piece, video: int) -> torch.Tensor:
    """Their logits for one document, [T, V]."""
    kind = piece.visuals[0].kind if piece.visuals else None
    tokens = torch.tensor([piece.tokens])
    given: dict[str, Any] = {}
    pixels = [torch.from_numpy(t).float().sub(127.5).div(127.5) for t in piece.tiles]
    if kind == "clip":
        tokens[tokens == 5] = video
        given["pixel_values_videos"] = pixels[0][None]
    elif kind is not None:
        most = max(map(len, pixels))
        padded = [torch.cat([p, torch.zeros(most - len(p), *p.shape[1:])]) for p in pixels]
        given["pixel_values"] = torch.stack(padded)
        given["image_sizes"] = torch.tensor([[v.height, v.width] for v in piece.visuals])
        given["batch_num_images"] = torch.tensor([len(pixels)])
    found: torch.Tensor = theirs(input_ids=tokens, **given).logits[0]
    return found


DOCUMENTS = {
    **{f"{w}x{h}": (Visual("single", w, h),) for w, h in SIZES},
    "several": (Visual("several", 40, 30), Visual("several", 9, 70), Visual("several", 40, 30)),
    "clip": (Visual("clip", 50, 20, 3),),
    "text": (),
}


@pytest.mark.parametrize("visuals", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@torch.no_grad()
def test_logits_are_those_of_transformers(both: tuple[Llava, Any], visuals: tuple[Visual, ...]) -> None:
    model, theirs = both
    piece = Piece(3, *visuals)
    torch.testing.assert_close(model.logits(pack(piece)), logits(theirs, piece, video=6), rtol=0, atol=1e-5)


@torch.no_grad()
def test_packed_documents_do_not_see_their_neighbours(both: tuple[Llava, Any]) -> None:
    model, theirs = both
    piece = Piece(3, Visual("single", 60, 40))
    before, after = Piece(4, Visual("several", 8, 9), words=30), Piece(5, words=2)
    other = [Piece(6, words=17), Piece(7, Visual("clip", 20, 30, 2)), Piece(8)]
    alone = logits(theirs, piece, video=6)
    size = len(piece.tokens)
    one = model.logits(pack(before, piece, after))[len(before.tokens) :][:size]
    two = model.logits(pack(other[0], other[1], piece, other[2]))
    two = two[len(other[0].tokens) + len(other[1].tokens) :][:size]
    torch.testing.assert_close(one, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(two, alone, rtol=0, atol=1e-5)


def test_losses_are_cross_entropy_of_the_logits(both: tuple[Llava, Any]) -> None:
    model, _ = both
    row = pack(Piece(3, Visual("single", 60, 40)), Piece(4), Piece(5), supervised=[7, 0, 2])
    model.logits_at_once = 3 * 4096  # three positions a chunk
    losses = model(row)
    want = torch.nn.functional.cross_entropy(
        model.logits(row)[row.target_at_S], row.targets_S, reduction="none"
    )
    assert losses.shape == (9,) and losses.dtype == torch.float32
    torch.testing.assert_close(losses, want)


@pytest.mark.parametrize(
    "row", [pack(Piece(3)), pack(Piece(3), supervised=[0]), pack()], ids=["text", "unsupervised", "empty"]
)
def test_every_parameter_has_a_gradient_without_pictures_or_tokens(row: Any) -> None:
    model = composition().build(seed=1).train()
    model(row).sum().backward()
    without = [name for name, parameter in model.trainable().items() if parameter.grad is None]
    assert not without
    tower = [p.grad for name, p in model.trainable().items() if "vision_tower" in name]
    assert tower and all(grad is not None and not grad.any() for grad in tower)


def test_a_pictures_gradient_reaches_every_parameter_that_is_not_idle() -> None:
    model = composition().build(seed=1).train()
    model(pack(Piece(3, Visual("single", 60, 40)))).sum().backward()
    still = [name for name, p in model.trainable().items() if p.grad is None or not p.grad.any()]
    assert not still
    assert all("post_layernorm" in name for name in model.idle) and model.idle
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == model.idle


def test_recomputing_changes_no_gradient() -> None:
    row = pack(Piece(3, Visual("single", 60, 40)), Piece(4))
    grads = []
    for recompute in (False, True):
        model = composition().build(seed=1).train()
        if recompute:
            model.recompute()
        model(row).sum().backward()
        grads.append([p.grad for p in model.trainable().values()])
    for plain, again in zip(*grads, strict=True):
        torch.testing.assert_close(plain, again)


def test_bfloat16_computes_in_bfloat16_and_loses_in_float32() -> None:
    model = composition().build(dtype=torch.bfloat16, seed=1)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    row = pack(Piece(3, Visual("single", 60, 40)))
    losses = model(row)
    assert losses.dtype == torch.float32 and model.hidden(row).dtype == torch.bfloat16
    whole = composition().build(seed=1)
    torch.testing.assert_close(losses, whole(row), rtol=0.02, atol=0.02)


def test_one_tile_without_pinpoints() -> None:
    flat = Geometry(32, 8)
    model = replace(composition(), geometry=flat).build(seed=1)
    piece = Piece(3, Visual("single", 60, 40), geometry=flat)
    assert piece.tokens.count(5) == 17 and model.logits(pack(piece)).isfinite().all()


def test_image_tokens_that_do_not_fit_are_an_error() -> None:
    model = composition().build(seed=1)
    row = pack(Piece(3, Visual("single", 60, 40)))
    row.tokens_T[row.tokens_T.tolist().index(5)] = 99
    with pytest.raises(RuntimeError, match="not as many image tokens"):
        model.logits(row)
