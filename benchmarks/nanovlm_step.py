"""nanoVLM's own model, packer and collator at work on documents of ours, for train_llava.py to measure.

They come from a checkout of its repository, unchanged; importing them needs einops. The model has random
weights and the sizes of ours. Pixel shuffle is by 1: a tile has as many tokens as in ours, 16, and a picture
too, 88, for the 8 row ends, which nanoVLM does not know, stay in their places as ordinary tokens. It differs
from ours by the tower's last norm, by a projector of one layer instead of two, and by having no biases in
attention's products.

The step is that of its train.py, schedule and logging left out: micro-batch by micro-batch the logits of all
positions, the mean over supervised ones, and the gradient of that over the number of micro-batches; then
clipping and AdamW. On a CPU its train.py casts to bfloat16 by autocast; here that is left out.
"""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from infinity_mm.models.torchvision_ops import import_torchvision
from trainers.batch import Pack
from trainers.flops import Part, linear_weights
from trainers.llava.compose import Composition
from trainers.llava.cost import attention_width

ROWS, BATCH = 8, 2  # that its packer fills at a time, four micro-batches of them; rows of a micro-batch
Batch = dict[str, Any]


class Documents(NamedTuple):
    """What its packer asks of a dataset."""

    dataset: list[Batch]
    tokenizer: Any
    mp_image_token_length: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return dict(self.dataset[index])


def build(folder: Path, composition: Composition, tokenizer: Path) -> Any:
    """Its VisionLanguageModel with random weights, in the sizes of a composition. `tokenizer`: a folder with
    the composition's."""
    import_torchvision()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    tower, language = composition.tower.config, composition.language.config
    tokens = composition.tokens
    config = import_module("models.config").VLMConfig(
        vit_hidden_dim=tower.hidden_size,
        vit_inter_dim=tower.intermediate_size,
        vit_patch_size=tower.patch_size,
        vit_img_size=tower.image_size,
        vit_n_heads=tower.num_attention_heads,
        vit_n_blocks=tower.num_hidden_layers,
        lm_hidden_dim=language.hidden_size,
        lm_inter_dim=language.intermediate_size,
        lm_max_position_embeddings=language.max_position_embeddings,
        lm_vocab_size=language.vocab_size,
        lm_n_heads=language.num_attention_heads,
        lm_n_kv_heads=language.num_key_value_heads,
        lm_n_blocks=language.num_hidden_layers,
        lm_tokenizer=str(tokenizer),
        lm_chat_template=None,
        vlm_extra_tokens={"image_token": tokens.tokenizer.convert_ids_to_tokens(tokens.image)},
        mp_pixel_shuffle_factor=1,
        mp_image_token_length=composition.geometry.grid**2,
    )
    model = import_module("models.vision_language_model").VisionLanguageModel(config, load_backbone=False)
    assert model.tokenizer.image_token_id == tokens.image
    return model.train()


def documents(packs: list[Pack], model: Any, tiles: list[int]) -> list[Batch]:
    """Documents of one picture or none as its datasets give them. `tiles`: of each picture, in order."""
    found, image = [], model.tokenizer.image_token_id
    counts = iter(tiles)
    for pack in packs:
        labels_T = torch.full_like(pack.tokens_T, -100)
        labels_T[pack.target_at_S] = pack.targets_S
        left_N = pack.tiles_N
        for start, end in pairwise(pack.starts_D.tolist()):
            tokens = pack.tokens_T[start:end].clone()
            at = (tokens == image).nonzero().flatten()
            count = next(counts) if len(at) else 0
            tokens[at[count * model.cfg.mp_image_token_length :]] = model.tokenizer.eos_token_id
            found.append(
                {
                    "input_ids": tokens,
                    "attention_mask": torch.ones_like(tokens),
                    "labels": labels_T[start:end],
                    "images": [left_N[:count] / 255] if count else [],
                }
            )
            left_N = left_N[count:]
    return found


def rows(samples: list[Batch], model: Any) -> list[Batch]:
    """A step as train.py takes it: documents packed in rows, micro-batches of two.

    A step is what its packer fills at a time with train.py's batch of 2, so a row is an eighth of the step's
    tokens. It begins with 5 rows more than those, and puts documents, the longest first, in the emptiest; a
    pad token follows each. Documents of a row see each other.
    """
    length = -(-sum(len(one["input_ids"]) + 1 for one in samples) // ROWS)
    packed = import_module("data.advanced_datasets").ConstantLengthDataset(
        Documents(samples, model.tokenizer, model.cfg.mp_image_token_length),
        max_sample_length=length,
        seq_length=length,
        num_of_sequences=ROWS,
    )
    return list(collated(list(packed), model, BATCH, length))


def padded(samples: list[Batch], model: Any, micro: int) -> list[Batch]:
    """A step without its packer: documents padded to the longest of each micro-batch."""
    return list(collated(samples, model, micro, None))


def collated(samples: list[Batch], model: Any, size: int, length: int | None) -> Iterator[Batch]:
    """Micro-batches of so many, padded on the left to a length, or to the longest."""
    collate = import_module("data.collators").VQACollator(model.tokenizer, length)
    for at in range(0, len(samples), size):
        yield collate(samples[at : at + size])


def stepper(model: Any, batches: list[Batch], rate: float, limit: float) -> Callable[[], float]:
    """A step over micro-batches; the mean of their losses."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)

    def step() -> float:
        total = 0.0
        for batch in batches:
            _, loss = model(
                batch["input_ids"],
                batch["images"],
                attention_mask=batch["attention_mask"],
                targets=batch["labels"],
            )
            loss = loss / len(batches)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, max_norm=limit)
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


def parts(model: Any, composition: Composition) -> tuple[Part, ...]:
    """Tower, projector, language model and head, as costs of a token."""
    tower, language = (attention_width(part.config) for part in (composition.tower, composition.language))
    return (
        Part(linear_weights(model.vision_encoder), tower),
        Part(linear_weights(model.MP)),
        Part(linear_weights(model.decoder.blocks), language, causal=True),
        Part(model.decoder.head.weight.numel()),
    )
