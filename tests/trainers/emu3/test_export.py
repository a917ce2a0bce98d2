"""An exported folder: transformers finds every weight and says the same; it is a start for the next run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_emu3 import composition, layouts, pack, visual
from tiny_vq import write_vq

from trainers.emu3.compose import compose, exported
from trainers.emu3.export import export
from trainers.emu3.layouts import Said
from trainers.emu3.model import Emu3


class Written:
    def __init__(self, folder: Path) -> None:
        self.made = composition(folder)
        self.model: Emu3 = self.made.build(seed=2).eval()
        self.folder = export(self.model, self.made, folder / "out", card="# A card", areas=(16 * 16, 64 * 64))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("export"))


def test_transformers_loads_it_whole_and_says_the_same(written: Written) -> None:
    from transformers import Emu3ForConditionalGeneration

    theirs, report = Emu3ForConditionalGeneration.from_pretrained(written.folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    make = layouts(written.made)
    laid = make.image("a red box", visual(0))
    with torch.no_grad():
        logits = theirs(input_ids=torch.from_numpy(laid.ids).long()[None]).logits[0]
        own = written.model.logits(pack(written.made, [laid]))
    torch.testing.assert_close(logits, own, rtol=0, atol=1e-5)
    assert theirs.generation_config.eos_token_id == written.made.vocabulary.eos
    names = json.loads((written.folder / "config.json").read_text())
    assert names["text_config"]["rope_theta"] == names["text_config"]["rope_parameters"]["rope_theta"] == 1e6
    assert len(names["vocabulary_map"]) == written.made.vocabulary.codes + 2


def test_its_processor_lays_a_question_out_as_training_does(written: Written) -> None:
    """But for the placeholder, which the model puts the picture's codes in place of."""
    from PIL import Image
    from transformers import AutoProcessor, Emu3ForConditionalGeneration

    processor = AutoProcessor.from_pretrained(written.folder)
    assert processor.image_processor.image_mean == processor.image_processor.image_std == [0.5] * 3
    content = [{"type": "image"}, {"type": "text", "text": "What colour?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}])
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    inputs = processor(text=prompt, images=Image.fromarray(pixels), return_tensors="pt")
    make, vocabulary = layouts(written.made), written.made.vocabulary
    want = make.chat_prompt([Said("user", (visual(0, 8, 8), "What colour?"))]).astype(np.int64)
    inside = (want >= vocabulary.visual) | (want == vocabulary.eol)
    assert inputs["input_ids"][0].tolist() == np.where(inside, vocabulary.image, want).tolist()
    codes = written.made.vision.load("cpu").encode_pictures(pixels[None])
    model = Emu3ForConditionalGeneration.from_pretrained(written.folder)
    ids = torch.from_numpy(want.copy())[None]
    ids[ids >= vocabulary.visual] = torch.from_numpy(codes.reshape(-1)).long() + vocabulary.visual
    with torch.no_grad():
        seen = model(**inputs).logits
        inline = model(input_ids=ids).logits
    torch.testing.assert_close(seen, inline, rtol=0, atol=1e-5)


def test_a_folder_is_a_start_with_the_same_weights_and_ids(written: Written) -> None:
    again = exported(written.folder)
    assert again.vocabulary == written.made.vocabulary
    assert again.vision.facts == written.made.vision.facts
    state = again.build(seed=9).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in written.model.state_dict().items())
    texts = ["a red box", "<image> and <|extra_200|>", "一个红色的圆"]
    for text in texts:
        ids = layouts(again).encode(text)
        assert ids == layouts(written.made).encode(text) and layouts(again).decode(ids) == text


def test_a_folder_is_not_overwritten_by_accident(written: Written) -> None:
    with pytest.raises(FileExistsError, match="is there already"):
        export(written.model, written.made, written.folder, card="")
    assert (written.folder / "README.md").read_text() == "# A card"


def test_tied_embeddings_are_written_once(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import Emu3ForConditionalGeneration

    made = composition(tmp_path, tie_word_embeddings=True)
    model = made.build()
    folder = export(model, made, tmp_path / "out", card="", dtype=torch.float16)
    names = load_file(folder / "model.safetensors")
    assert "text_model.lm_head.weight" not in names
    assert names["text_model.model.embed_tokens.weight"].dtype == torch.float16
    theirs, report = Emu3ForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(theirs.lm_head.weight, theirs.get_input_embeddings().weight)
    assert exported(folder).vision.facts.digest == made.vision.facts.digest  # its weights are as they were


def test_parts_that_do_not_fit_are_told(written: Written, tmp_path: Path) -> None:
    vq = str(written.folder.parent / "vq")

    def error(language: object, tokenizer: str = "tiny", vision: str = vq) -> str:
        with pytest.raises(ValueError) as found:
            compose(language, tokenizer, vision)  # type: ignore[arg-type]
        return str(found.value)

    assert "Emu3TextConfig has no such field" in error({"hiden_size": 8})
    assert "there is no such folder" in error({}, tokenizer="./none")
    assert "there is no tokenizer.json" in error({}, tokenizer=str(tmp_path))
    other = write_vq(tmp_path / "vq", codebook_size=32)
    assert "is not the" in error(str(written.folder), vision=str(other))
    assert "only an Emu3 can be loaded" in error(str(other))
