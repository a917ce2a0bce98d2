"""Exported folders, read by transformers and back."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_llava import GRIDS, LANGUAGE, TOWER, Piece, composition, pack

from infinity_mm.image_tokens import Geometry, Visual
from infinity_mm.schema import Part, Turn
from trainers.llava import export as exporting
from trainers.llava.compose import exported
from trainers.llava.export import export
from trainers.llava.generate import Answerer, Question, Sampling

PICTURES = [(32, 32), (64, 64), (96, 32)]  # sizes that no processor needs to resize for their grid


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), np.uint8)


def question(*sizes: tuple[int, int], text: str = "What is it?") -> Question:
    parts = [*(Part("image", None, n) for n in range(len(sizes))), Part("text", text)]
    return Question(
        (Turn("user", tuple(parts)),), tuple([picture(s)] for s in sizes), ("image",) * len(sizes)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = composition()
    model = made.build(seed=1)
    with torch.no_grad():  # random weights answer with one token over and over; these do not
        for parameter in model.language_model.parameters():
            parameter.mul_(3)
    return export(model, made, tmp_path_factory.mktemp("runs") / "model", card="# A card\n")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> tuple[Any, Any]:
    """Transformers' model and processor; 0 weights are missing, none is unknown."""
    from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

    model, report = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return model.eval(), AutoProcessor.from_pretrained(folder)


def test_the_layout_is_the_hubs(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        names, metadata = list(file.keys()), file.metadata()
    starts = {
        *("vision_tower.vision_model.", "language_model.model.", "language_model.lm_head.weight"),
        *("multi_modal_projector.linear_", "image_newline"),
    }
    assert {start for start in starts for name in names if name.startswith(start)} == starts
    assert all(any(name.startswith(start) for start in starts) for name in names)
    assert metadata == {"format": "pt"}
    config = json.loads((folder / "config.json").read_text())
    assert config["text_config"]["rope_theta"] == 100_000.0  # as version 4 names it
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert config["vision_feature_layer"] == -1 and config["vision_config"]["num_hidden_layers"] == 2
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"  # version 4 has no other that fits
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]
    assert (folder / "README.md").read_text() == "# A card\n"


@pytest.mark.parametrize("sizes", [*([s] for s in PICTURES), PICTURES[:1] * 3, []], ids=str)
def test_prompts_pixels_and_greedy_answers_are_theirs(
    folder: Path, theirs: tuple[Any, Any], sizes: Sequence[tuple[int, int]]
) -> None:
    made = exported(folder)
    answerer = Answerer(made.build(), made)
    asked = question(*sizes, text="看图,what is it?")
    document = answerer.document(asked)
    model, processor = theirs
    content = [*({"type": "image"} for _ in sizes), {"type": "text", "text": "看图,what is it?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = [[Image.fromarray(picture(s)) for s in sizes]] if sizes else None
    inputs = processor(text=[prompt], images=images, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == document.tokens.tolist()
    (mine,) = answerer.tokens([document], Sampling(most=12))
    with torch.no_grad():
        found = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, len(document.tokens) :]
    want = found.tolist()
    assert len(set(mine)) > 3
    assert mine == want[: next((n for n, t in enumerate(want) if t in answerer.ends), len(want))]


def test_a_clip_is_theirs(folder: Path, theirs: tuple[Any, Any]) -> None:
    made = exported(folder)
    answerer = Answerer(made.build(), made)
    frames = [picture((32, 32)), picture((32, 32))[::-1]]
    turns = (Turn("user", (Part("video", None, 0), Part("text", "Go on"))),)
    document = answerer.document(Question(turns, (frames,), ("video",)))
    model, processor = theirs
    content = [{"type": "video"}, {"type": "text", "text": "Go on"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[prompt], videos=[np.stack(frames)], return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    assert [5 if token == 6 else token for token in ids] == document.tokens.tolist()
    with torch.no_grad():
        want = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
    assert answerer.tokens([document], Sampling(most=8)) == [want]


def test_a_folder_loads_back_to_the_bit(folder: Path) -> None:
    made = exported(folder)
    assert made.geometry == GRIDS
    model = made.build(seed=9)
    again = export(model, made, folder.with_name("again"), card="")
    for file in ("model.safetensors", "config.json", "tokenizer.json", "processor_config.json"):
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file


def test_a_clip_tower_tied_embeddings_and_a_linear_projector(tmp_path: Path) -> None:
    language = {**LANGUAGE, "tie_word_embeddings": True}
    tower = {**TOWER, "model_type": "clip_vision_model"}
    made = composition(tower=tower, language=language, projector="linear")
    model = made.build(seed=1).eval()
    export(model, made, tmp_path / "m", card="")
    from transformers import LlavaOnevisionForConditionalGeneration

    theirs, report = LlavaOnevisionForConditionalGeneration.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    piece = Piece(3, Visual("single", 60, 40))
    pixels = torch.from_numpy(piece.tiles[0]).float().sub(127.5).div(127.5)[None]
    with torch.no_grad():
        want = theirs.eval()(
            input_ids=torch.tensor([piece.tokens]), pixel_values=pixels, image_sizes=torch.tensor([[40, 60]])
        ).logits[0]
        torch.testing.assert_close(model.logits(pack(piece)), want, rtol=0, atol=1e-5)
        same = exported(tmp_path / "m").build().eval()
        torch.testing.assert_close(same.logits(pack(piece)), want, rtol=0, atol=1e-5)


def test_a_folder_appears_whole_or_not_at_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(folder)
    model = made.build()
    monkeypatch.setattr(exporting, "_write_tokenizer", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export(model, made, tmp_path / "m", card="")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    export(model, made, tmp_path / "m", card="one")
    with pytest.raises(FileExistsError, match="is there already"):
        export(model, made, tmp_path / "m", card="two")
    export(model, made, tmp_path / "m", card="two", replace=True)
    assert (tmp_path / "m" / "README.md").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_large_weights_are_several_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.exported.SHARD", 300_000)
    made = exported(folder)
    model = made.build()
    export(model, made, tmp_path / "m", card="", dtype=torch.bfloat16)
    files = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    from transformers import LlavaOnevisionForConditionalGeneration

    _, report = LlavaOnevisionForConditionalGeneration.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    same = exported(tmp_path / "m").build()
    torch.testing.assert_close(same.image_newline, model.image_newline.bfloat16().float())


def test_one_tile_is_written_as_a_grid_of_one(tmp_path: Path) -> None:
    made = replace(composition(), geometry=Geometry(32, 8))
    export(made.build(), made, tmp_path / "m", card="")
    assert exported(tmp_path / "m").geometry.pinpoints == ((32, 32),)


def test_a_folder_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no exported model"):
        exported(tmp_path)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "llava"}))
    with pytest.raises(ValueError, match="is a llava; only a llava_onevision"):
        exported(tmp_path)
    config["vision_config"]["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks vision_tower.*16 missing"):
        exported(tmp_path).build()
