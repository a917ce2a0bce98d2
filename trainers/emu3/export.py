"""Writing a trained model as a folder that transformers, from 4.48 to the newest, loads unchanged.

Beside what `hub_layout` says of weights and configuration there are the processor's files, with a mean and
deviation of 0.5 (the class's own default is another model's), and the tokenizer with every mark and code as a
special token. The vision tokenizer is inside, so that one folder understands and draws. A folder appears at
once, whole, or not at all.

transformers 4.57 to 5.5 silently ignore `pixel_values`: there, put the ids of pictures in `input_ids`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers.emu3 import hub_layout
from trainers.emu3.compose import Composition
from trainers.emu3.layouts import SYSTEM
from trainers.emu3.model import Emu3
from trainers.emu3.vocabulary import NAMES, Vocabulary, visual_name
from trainers.exported import whole_folder, write_weights

BICUBIC = 3
AREAS = (512 * 512, 1024 * 1024)  # pixels that Emu3's processor brings a picture to, at least and at most
TEMPLATE = (
    "{%- set found = namespace(system='" + SYSTEM + "', first=true) -%}"
    "{%- for message in messages -%}"
    "{%- set text = namespace(all='') -%}"
    "{%- if message['content'] is string -%}{%- set text.all = message['content'] -%}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- set text.all = text.all + ('<image>' if part['type'] == 'image' else part['text']) -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- if message['role'] == 'system' -%}{%- set found.system = text.all -%}"
    "{%- elif message['role'] == 'user' -%}"
    "{{ (found.system + ' ' if found.first else '') + 'USER: ' + text.all + '. ASSISTANT:' }}"
    "{%- set found.first = false -%}"
    "{%- else -%}{{ text.all + '" + NAMES["eos"] + "' }}{%- endif -%}"
    "{%- endfor -%}"
)


def export(
    model: Emu3,
    composition: Composition,
    folder: Path,
    *,
    card: str,
    state: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
    replace: bool = False,
    areas: tuple[int, int] = AREAS,
) -> Path:
    """Write a model, both its tokenizers and processor, and its card (README.md).

    `state`: the model's whole `state_dict`, where the model itself is sharded over ranks. `dtype`: of the
    language model's weights as written; without it, as they are. The vision tokenizer's stay as they are, for
    its digest says what codes mean. `areas`: least and most pixels of a picture. Raises FileExistsError where
    the folder is there, unless it is to be replaced, and ValueError for a model with norms that transformers'
    Emu3 has not.
    """
    if model.qk_norm:
        raise ValueError("a model with qk_norm can't be exported: transformers' Emu3 has no such layer")
    state = model.state_dict() if state is None else state
    written = dtype or next(iter(state.values())).dtype
    language = {name: value.detach().to("cpu", written) for name, value in state.items()}
    if model.config.tie_word_embeddings:  # the head is the embedding, and is not written twice
        del language["language_model.lm_head.weight"]
    with whole_folder(folder, replace) as temporary:
        write_weights(temporary, hub_layout.weights(language, composition.vision.weights), None)
        for name, content in _files(model, composition, written, areas).items():
            indent = None if name == "tokenizer.json" else 2
            text = json.dumps(content, indent=indent, ensure_ascii=False)
            (temporary / name).write_text(text + "\n", encoding="utf-8")
        (temporary / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return folder


def _files(
    model: Emu3, composition: Composition, dtype: torch.dtype, areas: tuple[int, int]
) -> dict[str, Any]:
    """The JSON files of a folder by name, but for the weights'."""
    vocabulary, vision = composition.vocabulary, composition.vision
    tokenizer = json.loads(Path(composition.tokenizer).read_text(encoding="utf-8"))
    ends = {"bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos, "pad_token_id": vocabulary.pad}
    roles = {
        "image_token": NAMES["image"],
        "boi_token": NAMES["boi"],
        "eoi_token": NAMES["eoi"],
        "image_wrapper_token": NAMES["img"],
        "eof_token": NAMES["eof"],
    }
    return {
        "config.json": hub_layout.configuration(model, vocabulary, vision.fields, dtype),
        "generation_config.json": {"do_sample": True, "top_k": 2048, "max_new_tokens": 50000, **ends},
        "preprocessor_config.json": {
            "image_processor_type": "Emu3ImageProcessor",
            "processor_class": "Emu3Processor",
            "do_convert_rgb": True,
            "do_resize": True,
            "resample": BICUBIC,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "do_pad": True,
            "min_pixels": areas[0],
            "max_pixels": areas[1],
            "spatial_factor": vision.facts.factor,
        },
        "processor_config.json": {"processor_class": "Emu3Processor"},
        "tokenizer.json": with_marks(tokenizer, vocabulary),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": "Emu3Processor",
            **{f"{role}_token": NAMES[role] for role in ("bos", "eos", "pad")},
            **roles,
            "extra_special_tokens": roles,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.config.max_position_embeddings,
            "model_input_names": ["input_ids", "attention_mask"],
            "chat_template": TEMPLATE,
        },
        "chat_template.json": {"chat_template": TEMPLATE},
    }


def with_marks(tokenizer: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """A tokenizer.json in which every mark and code has its name; a token of its own that has such a name
    gets another."""
    names = {getattr(vocabulary, mark): name for mark, name in NAMES.items()}
    names |= {vocabulary.visual + code: visual_name(code) for code in range(vocabulary.codes)}
    taken = set(names.values())

    def own(name: str) -> str:
        return f"<|own {name}|>" if name in taken else name

    vocab = {own(name): number for name, number in tokenizer["model"]["vocab"].items() if number not in names}
    added = [
        {**token, "content": own(token["content"])}
        for token in tokenizer["added_tokens"]
        if token["id"] not in names
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added += [{"id": number, "content": names[number], **flags} for number in sorted(names)]
    return {**tokenizer, "model": {**tokenizer["model"], "vocab": vocab}, "added_tokens": added}
