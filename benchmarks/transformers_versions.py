"""Exported folders in one version of transformers after another: loaded, asked, and compared with the
trainer.

    python benchmarks/transformers_versions.py                    the versions below
    python benchmarks/transformers_versions.py --versions 4.49.0 5.2.0

A small model with random weights is written by trainers/llava/export.py. Each version is fetched by pip,
with the tokenizers and the hub's library that it wants, into a folder that is kept (--cache), and runs in a
process of its own with all else that is here. Told is of each: weights that are missing or unknown, and
whether it gives the trainer's greedy answers to pictures alone, several pictures, a clip and text. Pictures
are of sizes that no processor resizes for its grid; where a base tile is resized, filters may differ by a
step of 255. Versions before 4.52 tile each of several pictures as if it were alone: OTHER is to be expected
of them there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

VERSIONS = {  # and the tokenizers that each wants
    "4.45.2": "tokenizers>=0.20,<0.21",
    "4.51.3": "tokenizers>=0.21,<0.22",
    "4.57.6": "tokenizers>=0.22,<=0.23.0",
    "5.5.4": "tokenizers>=0.22,<=0.23.0",
    "5.6.0": "tokenizers>=0.22,<=0.23.0",
}
HUB = {
    "4": ["huggingface_hub>=0.34,<1.0"],
    "5": ["huggingface_hub>=1.5,<2.0", "httpx", "httpcore", "anyio", "h11", "idna", "certifi"],
}
TOKENS = 12
ASKED = {
    "32×32": [(32, 32)],
    "64×32": [(64, 32)],
    "96×64": [(96, 64)],
    "3 pictures": [(32, 32), (32, 32), (32, 32)],
    "clip": [],
    "text": [],
}
TEXT = "What is it? 你好"


def pixels(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def export_small(folder: Path) -> dict[str, list[int]]:
    """Write the model; its own greedy answers."""
    import torch

    from infinity_mm.image_tokens import Geometry
    from infinity_mm.schema import Part, Turn
    from trainers.llava.compose import compose, exported
    from trainers.llava.export import export
    from trainers.llava.generate import Answerer, Question, Sampling

    made = compose(
        {
            "model_type": "siglip_vision_model",
            **{"image_size": 32, "patch_size": 8, "hidden_size": 64, "intermediate_size": 128},
            **{"num_hidden_layers": 3, "num_attention_heads": 2},
        },
        {
            "model_type": "qwen2",
            **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
            **{"num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e6},
            **{"max_position_embeddings": 2048, "tie_word_embeddings": False},
        },
        tokenizer="tiny",
    )
    model = made.build(seed=1)
    grids = tuple((32 * rows, 32 * columns) for rows in range(1, 4) for columns in range(1, 4))
    model.geometry = Geometry(32, 8, grids)
    with torch.no_grad():  # small random weights answer with one token over and over
        for parameter in model.language_model.parameters():
            parameter.mul_(3)
    export(model, made, folder, card="")
    made = exported(folder)
    answerer = Answerer(made.build(), made)
    found = {}
    for name, sizes in ASKED.items():
        media = [[pixels(number, size)] for number, size in enumerate(sizes)]
        kinds = ["image"] * len(sizes)
        if name == "clip":
            media, kinds = [[pixels(0, (32, 32)), pixels(1, (32, 32))]], ["video"]
        parts = [*(Part(kind, None, n) for n, kind in enumerate(kinds)), Part("text", TEXT)]
        question = Question((Turn("user", tuple(parts)),), tuple(media), tuple(kinds))
        (found[name],) = answerer.tokens([answerer.document(question)], Sampling(most=TOKENS))
    return found


def ask(folder: str) -> dict[str, Any]:
    """What the transformers that this process has makes of the folder."""
    import torch
    from PIL import Image

    from infinity_mm.models.torchvision_ops import import_torchvision

    import_torchvision()
    import transformers

    loaded: Any = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True
    )
    model, report = loaded
    processor = transformers.AutoProcessor.from_pretrained(folder)
    answers = {}
    for name, sizes in ASKED.items():
        kinds = ["video"] if name == "clip" else ["image"] * len(sizes)
        content = [*({"type": kind} for kind in kinds), {"type": "text", "text": TEXT}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        given: dict[str, Any] = {}
        if name == "clip":
            given["videos"] = [np.stack([pixels(0, (32, 32)), pixels(1, (32, 32))])]
        elif sizes:
            given["images"] = [[Image.fromarray(pixels(n, size)) for n, size in enumerate(sizes)]]
        try:
            inputs = processor(text=[prompt], return_tensors="pt", **given)
            with torch.no_grad():
                row = model.eval().generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[0]
            answers[name] = row[inputs["input_ids"].shape[1] :].tolist()
        except (RuntimeError, ValueError) as error:
            answers[name] = [" ".join(str(error).split())[:100]]
    return {
        "version": transformers.__version__,
        "missing": len(report["missing_keys"]),
        "unknown": len(report["unexpected_keys"]),
        "answers": answers,
    }


def fetched(version: str, cache: Path) -> Path | None:
    """A folder with that version; None where pip can't get it."""
    folder = cache / version
    if not (folder / "transformers").is_dir():
        wanted = [f"transformers=={version}", VERSIONS.get(version, "tokenizers"), *HUB[version[0]]]
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(folder),
            *wanted,
        ]
        if subprocess.run(command, capture_output=True).returncode:
            return None
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--versions", nargs="*", default=list(VERSIONS), help="versions of transformers")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "imm-transformers")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        print(json.dumps(ask(given.ask)))
        return
    with tempfile.TemporaryDirectory() as folder:
        own = export_small(Path(folder) / "model")
        print(f"{'transformers':14}{'missing':>8}{'unknown':>8}  " + "".join(f"{name:>12}" for name in own))
        for version in ["here", *given.versions]:
            place = Path() if version == "here" else fetched(version, given.cache)
            if place is None:
                print(f"{version:14} pip can't get it here")
                continue
            repository = Path(__file__).resolve().parents[1]
            paths = [str(place), str(repository)] if version != "here" else [str(repository)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
            command = [sys.executable, __file__, "--ask", str(Path(folder) / "model")]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                print(f"{version:14} {done.stderr.strip().splitlines()[-1][:120]}")
                continue
            told = json.loads(done.stdout.splitlines()[-1])
            same = ["equal" if _equal(told["answers"][name], own[name]) else "OTHER" for name in own]
            print(
                f"{told['version']:14}{told['missing']:>8}{told['unknown']:>8}  "
                + "".join(f"{word:>12}" for word in same)
            )


def _equal(theirs: list[int], own: list[int]) -> bool:
    """Whether answers are equal; ours comes without the token that ends it."""
    return theirs == own or (len(own) < TOKENS and theirs[:-1] == own)


if __name__ == "__main__":
    main()
