"""An exported Emu3 draws and answers as transformers' own does, by function and by command."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_painter import exported

from infinity_mm.cli import main
from trainers.emu3.choose import Sampling
from trainers.emu3.drawing_defaults import Defaults, read_defaults, write_defaults
from trainers.emu3.generate import Painter, open_painter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("emu3"))


@pytest.fixture(scope="module")
def painter(folder: Path) -> Painter:
    return open_painter(folder, "cpu")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Any:
    from transformers import Emu3ForConditionalGeneration

    return Emu3ForConditionalGeneration.from_pretrained(folder).eval()


def test_a_drawing_is_what_transformers_decodes(painter: Painter, whole: Any) -> None:
    (drawn,) = painter.draw(["A red star."], [3], Sampling(guidance=2.0), height=24, width=40)
    assert drawn.pixels.shape == (24, 40, 3) and drawn.codes.shape == (3, 5)
    with torch.no_grad():
        decoded = whole.model.vqmodel.decode(torch.from_numpy(drawn.codes.astype(np.int64))[None])[0]
    theirs = decoded.add(1).mul(127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(theirs - drawn.pixels.astype(np.float32)).max() <= 1


def test_many_drawings_are_those_drawn_alone(painter: Painter) -> None:
    prompts, seeds, sampling = ["A star.", "", "A large blue circle."], [7, 8, 9], Sampling(guidance=3.0)
    together = painter.draw(prompts, seeds, sampling, batch=2)
    for prompt, seed, drawn in zip(prompts, seeds, together, strict=True):
        (alone,) = painter.draw([prompt], [seed], sampling)
        assert alone.codes.tolist() == drawn.codes.tolist()
        assert np.abs(alone.pixels.astype(int) - drawn.pixels).max() <= 1


def test_a_negative_prompt_leads_elsewhere(painter: Painter) -> None:
    plain, led = (
        painter.draw(["A star."], [0], Sampling(guidance=3.0), negative=negative)[0].codes.tolist()
        for negative in ("", "A blue circle.")
    )
    assert plain != led


def test_an_answer_is_that_of_transformers(painter: Painter, whole: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    seen = painter.see(pixels)
    assert seen.grid == (1, 3, 5)  # 1,500 pixels become at most 1,024
    for asked in ("What is it?", None):
        ids = painter.prompt(asked, [seen])
        visual = [i for i in ids if i >= painter.layouts.vocabulary.visual]
        assert len(visual) == 15
        found = whole.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=6,
            do_sample=False,
            suppress_tokens=[
                i
                for i in range(painter.layouts.vocabulary.text, painter.layouts.vocabulary.size)
                if i != painter.layouts.vocabulary.eos
            ],
        )
        said = painter.layouts.decode(
            [i for i in found[0, len(ids) :].tolist() if i != whole.config.text_config.eos_token_id]
        )
        answer = painter.ask(asked, [pixels], most=6)
        assert (answer.text, answer.prompt_tokens) == (said.strip(), len(ids))
        assert answer.image_tokens == painter.layouts.visual_length(seen.grid)


def test_defaults_come_back_and_are_the_published_without_a_file(folder: Path, tmp_path: Path) -> None:
    assert read_defaults(folder) == Defaults(sampling=Sampling(guidance=2.0, top_k=50), height=16, width=32)
    for most, side in ((1024 * 1024, 720), (4096, 64), (5000, 64)):
        sizes = {"max_pixels": most, "spatial_factor": 8}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(sizes))
        published = Sampling(guidance=3.0, top_k=2048)
        assert read_defaults(tmp_path) == Defaults(sampling=published, height=side, width=side)
    write_defaults(tmp_path, Defaults())
    assert read_defaults(tmp_path) == Defaults()
    (tmp_path / "drawing.json").write_text('{"height": 8, "width": 8, "warmth": 1}')
    with pytest.raises(ValueError, match="does not say how to draw"):
        read_defaults(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, dict[str, Any], str]:
    code = main(["generate", *map(str, args), "--device", "cpu", "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_the_command_draws_files_and_a_sheet(
    folder: Path, painter: Painter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("A red star.\n\nA blue circle.\n")
    out = tmp_path / "drawn" / "sheet.png"
    asked = ["--prompts", tmp_path / "prompts.txt", "--prompt", "First.", "--count", 2, "--seed", 5]
    code, result, _ = run(capsys, "--model", folder, *asked, "--out", out)
    assert code == 0
    prompts = [picture["prompt"] for picture in result["pictures"]]
    assert prompts == ["First."] * 2 + ["A red star."] * 2 + ["A blue circle."] * 2
    assert (result["guidance"], result["top_k"], result["codes"]) == (2.0, 50, 6 * 8)
    for drawn, picture in zip(
        painter.draw(prompts, range(5, 11), painter.defaults.sampling), result["pictures"], strict=True
    ):
        assert np.array_equal(np.asarray(Image.open(picture["file"])), drawn.pixels)
    assert Path(result["pictures"][5]["file"]) == tmp_path / "drawn" / "sheet-006.png"
    with Image.open(out) as sheet:
        assert min(sheet.size) > 200
    code, result, _ = run(
        capsys,
        "--model",
        folder,
        "--prompt",
        "x",
        "--size",
        "8x16",
        "--guidance",
        1,
        "--out",
        tmp_path / "one.png",
    )
    assert code == 0 and Image.open(tmp_path / "one.png").size == (8, 16)
    assert (result["guidance"], list(tmp_path.glob("one*"))) == (1.0, [tmp_path / "one.png"])


def test_the_command_answers(
    folder: Path, painter: Painter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    asked = ["--model", folder, "--image", tmp_path / "a.png", "--max-tokens", 5]
    code, result, _ = run(capsys, *asked, "--prompt", "What is it?")
    assert code == 0 and result["answer"] == painter.ask("What is it?", [pixels], most=5).text
    code, result, _ = run(capsys, *asked)
    assert code == 0 and result["answer"] == painter.ask(None, [pixels], most=5).text


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--prompt", "x"], 1, "--out is missing"),
        (["--out", "x.png"], 1, "nothing to draw"),
        (["--prompt", "x", "--out", "x.gif"], 2, "give a name that ends in .png"),
        (["--prompt", "x", "--out", "x.png", "--size", "12x16"], 1, "give sides that are multiples of 8"),
        (["--prompt", "x", "--out", "x.png", "--size", "8x80"], 1, "one side may be 5 times the other"),
        (["--prompt", "x", "--out", "x.png", "--size", "big"], 2, "--size"),
        (["--prompt", "star " * 300, "--out", "x.png"], 1, "do not fit the model's context of 256"),
        (
            ["--prompt", "x", "--image", "x.png", "--out", "x.png"],
            2,
            "--out is for drawing, --image for asking",
        ),
        (["--prompt", "x", "--prompt", "y", "--image", "x.png"], 2, "give one about the pictures"),
        (["--prompt", "x", "--video", "x.mp4"], 1, "an Emu3 is asked about pictures"),
        (["--prompt", "x", "--out", "x.png", "--system", "y"], 1, "drawing has no system turn"),
    ],
)
def test_wrong_use_is_told(
    folder: Path, args: list[str], code: int, said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, "--model", folder, *args)
    assert found == code and said in err
    assert list(tmp_path.iterdir()) == []


def test_folders_that_do_not_fit_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(name: str, text: str | None) -> str:
        other = tmp_path / "other"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(folder, other)
        (other / name).unlink() if text is None else (other / name).write_text(text)
        code, _, err = run(capsys, "--model", other, "--prompt", "x", "--out", tmp_path / "x.png")
        assert code == 1
        return err

    words = (folder / "tokenizer.json").read_text()
    assert "there is no tokenizer.json" in told("tokenizer.json", None)
    assert "the tokenizer is another model's" in told(
        "tokenizer.json", words.replace("<|visual token 000007|>", "<|visual token 000063|>", 1)
    )
    config = json.loads((folder / "config.json").read_text())
    assert "is a llava_onevision, which answers and does not draw" in told(
        "config.json", json.dumps({"model_type": "llava_onevision"})
    )
    config["text_config"]["vocab_size"] -= 1
    assert "is not the 4,169 of the tokenizers" in told("config.json", json.dumps(config))
    assert "is no exported model" in told("config.json", None)
