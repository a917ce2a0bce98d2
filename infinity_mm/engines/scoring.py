"""How likely a vision-language model finds what was answered: the loss of its assistant's tokens.

A scorer is named by the hub id or folder of a model that transformers loads for pictures and text, or `tiny`,
which ships; `MODEL?pixels=250000` has it see pictures of at most so many pixels. The loss is the mean of
-log p over what the assistant says in all its turns and the tokens that end them, each after all that was
written before it (teacher forcing). In float32 on a CPU; on a GPU in bfloat16, its log-probabilities float32.

Samples of like length make a batch, padded behind and masked: a loss depends on its neighbours by rounding
alone, and is the same for the same samples. Of the logits only those of scored tokens are made. Time is the
model's; memory: the model, WINDOW samples as it takes them, and a batch's logits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infinity_mm.engines.base import EngineError, Failure, Identity
from infinity_mm.engines.checks import one_line
from infinity_mm.engines.layout import Laid, Layout, Refused
from infinity_mm.engines.memory import free, out_of_memory
from infinity_mm.engines.model_files import model_digest, model_folder
from infinity_mm.media.decode import DEFAULT_MAX_PIXELS
from infinity_mm.models.shipped import shipped_folder
from infinity_mm.models.torch_device import torch_device
from infinity_mm.models.torchvision_ops import import_torchvision
from infinity_mm.schema import Turn
from infinity_mm.sidecars import installed

LIBRARIES = ("torch", "transformers", "tokenizers", "torchvision", "pillow")
WINDOW = 64  # samples that are sorted by length
BATCH = 8192  # tokens
SCORED = 2048  # scored tokens of a batch: each has a logit for every token of the vocabulary
CHUNK = 512  # of them whose log-probabilities are made at a time


class Loss(NamedTuple):
    """Nats a scored token, and how many they are."""

    mean: float
    tokens: int

    @property
    def sum(self) -> float:
        return self.mean * self.tokens


Scored = Loss | Failure
Sample = tuple[Sequence[Turn], Sequence[bytes]]  # turns, and the stored pictures that their parts name


class FoundScorer:
    """A scorer that is there, not loaded yet. `device`: cpu or cuda (or cuda:N)."""

    def __init__(self, spec: str, folder: Path, pixels: int, device: str) -> None:
        self.spec, self.folder, self.pixels, self.device = spec, folder, pixels, device
        self.libraries = LIBRARIES

    @cached_property
    def identity(self) -> Identity:
        """What losses depend on besides the samples."""
        model = model_digest(self.folder) + (f"?pixels={self.pixels}" if self.pixels else "")
        libraries = ", ".join(f"{name} {version}" for name, version in installed(LIBRARIES).items())
        dtype = "float32" if self.device == "cpu" else "bfloat16"
        return Identity("scorer", model, dtype, self.device.partition(":")[0], libraries)

    def load(self, batch: int = BATCH, max_pixels: int = DEFAULT_MAX_PIXELS) -> "Scorer":
        """Load the model. Raises ValueError for one that can't be loaded, or has no chat to score."""
        kind = f"scorer {self.spec}"
        with suppress(ImportError):  # transformers prepares pictures without it too
            import_torchvision()
        try:
            import transformers
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ValueError(
                f"{kind} needs transformers ({error}): pip install 'infinity-mm[models]'"
            ) from None
        import torch

        disable_progress_bar()  # the command has its own
        auto: Any = transformers.AutoModelForImageTextToText
        try:
            processor = transformers.AutoProcessor.from_pretrained(self.folder, local_files_only=True)
            model, loading = auto.from_pretrained(
                self.folder,
                local_files_only=True,
                dtype=getattr(torch, self.identity.dtype),
                output_loading_info=True,
            )
        except Exception as error:  # transformers and the hub's library raise what they like
            raise ValueError(
                f"{kind}: transformers can't load {self.folder}: {one_line(error, 200)}"
            ) from None
        if missing := set(loading["missing_keys"]):
            raise ValueError(
                f"{kind}: the checkpoint lacks {len(missing)} weights, such as {min(missing)}; it may be of "
                "another version of transformers"
            )
        if model.get_output_embeddings() is None:
            raise ValueError(f"{kind}: a {type(model).__name__} has no head that makes logits")
        try:
            layout = Layout(processor, self.pixels, max_pixels)
        except ValueError as error:
            raise ValueError(f"{kind}: {error}") from None
        return Scorer(self, model.to(self.device).eval(), layout, batch)


def find_scorer(spec: str, device: str | None = None) -> FoundScorer:
    """The scorer that a text names; its files are looked for, and fetched from the hub if need be.

    `device`: cpu, cuda or cuda:N; None takes the GPU where there is one. Raises ValueError, in one line with
    the way out.
    """
    name, _, option = spec.partition("?")
    key, _, value = option.partition("=")
    if option and (key != "pixels" or not value.isdecimal() or int(value) < 1):
        raise ValueError(f"scorer {spec}: its one option is ?pixels=N, such as {name}?pixels=250000")
    device, _ = torch_device(spec, device, "scorer")
    folder = model_folder(str(shipped_folder(name)) if name else "", spec, "scorer")
    return FoundScorer(spec, folder, int(value or 0), device)


def open_scorer(spec: str, device: str | None = None, batch: int = BATCH) -> "Scorer":
    """The scorer that a text names, loaded. `batch`: tokens of a batch at most, padding counted. Raises
    ValueError, in one line with the way out."""
    return find_scorer(spec, device).load(batch)


class Scorer:
    """A loaded model that scores conversations."""

    def __init__(self, found: FoundScorer, model: Any, layout: Layout, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"scorer {found.spec}: batch {batch}: give 1 token or more")
        self.spec, self.device, self.identity = found.spec, found.device, found.identity
        self.model, self.layout, self.batch = model, layout, batch
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        pad = layout.processor.tokenizer.pad_token_id
        self._pad = layout.chat.end_id if pad is None else pad

    def losses(self, samples: Sequence[Sample]) -> list[Scored]:
        """The loss of each sample, or why it has none. Raises EngineError where the device fails."""
        return [
            scored
            for start in range(0, len(samples), WINDOW)
            for scored in self._window(samples[start : start + WINDOW])
        ]

    def close(self) -> None:
        """Give the model's memory back."""
        self.model = None
        free()

    def _window(self, samples: Sequence[Sample]) -> list[Scored]:
        results: dict[int, Scored] = {}
        laid: dict[int, Laid] = {}
        for place, (turns, pictures) in enumerate(samples):
            try:
                laid[place] = self._laid(turns, pictures)
            except Refused as refused:
                results[place] = refused.failure
        for places in _batches(laid, self.batch):
            results.update(zip(places, self._tried([laid[place] for place in places]), strict=True))
        return [results[place] for place in range(len(samples))]

    def _laid(self, turns: Sequence[Turn], pictures: Sequence[bytes]) -> Laid:
        """A sample as the model takes it. Raises Refused."""
        laid = self.layout.lay_out(turns, pictures)
        if not laid.supervised.any():
            raise Refused("no_answer", "no assistant says anything")
        if self.context is not None and len(laid.tokens) > self.context:
            raise Refused("too_long", f"{len(laid.tokens)} tokens, and the model takes {self.context}")
        return laid

    def _tried(self, group: Sequence[Laid]) -> list[Scored]:
        """The losses of a batch; where the model can't take it, of its halves."""
        try:
            return self._scored(group)
        except (RuntimeError, MemoryError, ValueError, IndexError) as error:
            if "CUDA error" in str(error):
                raise EngineError(f"scorer {self.spec}: {one_line(error, 200)}") from error
            reason = "out_of_memory" if out_of_memory(error) else "refused"
            said = one_line(error, 200)
        free()
        if len(group) == 1:
            return [Failure(reason, f"{len(group[0].tokens)} tokens, on {self.device}: {said}")]
        half = len(group) // 2
        return self._tried(group[:half]) + self._tried(group[half:])

    def _scored(self, group: Sequence[Laid]) -> list[Scored]:
        import torch

        with torch.inference_mode():
            inputs = {
                name: value.to(self.device, self.model.dtype if value.is_floating_point() else value.dtype)
                for name, value in _collated(group, self._pad).items()
            }
            counts = [int(laid.supervised.sum()) for laid in group]
            rows = np.repeat(np.arange(len(group)), counts)
            at = np.concatenate([np.flatnonzero(laid.supervised) for laid in group])
            row_S, at_S = (torch.from_numpy(one).to(self.device) for one in (rows, at))
            targets_S = inputs["input_ids"][row_S, at_S]

            def picked(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
                return given[0][row_S, at_S - 1][None], *given[1:]

            hook = self.model.get_output_embeddings().register_forward_pre_hook(picked)
            try:
                logits = self.model(**inputs, use_cache=False).logits
            finally:
                hook.remove()
            if logits.shape[:2] != (1, len(at)):
                raise ValueError(f"a {type(self.model).__name__} makes its logits in another way")
            losses_S = torch.cat(
                [
                    torch.nn.functional.cross_entropy(logits_CV.float(), targets_C, reduction="none")
                    for logits_CV, targets_C in zip(
                        logits[0].split(CHUNK), targets_S.split(CHUNK), strict=True
                    )
                ]
            )
            sums = [float(one.double().sum()) for one in losses_S.split(counts)]
        return [_loss(total, count) for total, count in zip(sums, counts, strict=True)]


def _loss(total: float, count: int) -> Scored:
    if not np.isfinite(total):
        return Failure("not_finite", f"the model gave {total}")
    return Loss(total / count, count)


def _batches(laid: Mapping[int, Laid], most: int) -> Iterator[list[int]]:
    """The places of samples of like length that have the same kinds of inputs, `most` tokens with padding."""
    kinds: dict[frozenset[str], list[int]] = {}
    for place, one in laid.items():
        kinds.setdefault(frozenset(one.tensors), []).append(place)
    for places in kinds.values():
        batch: list[int] = []
        scored = 0
        for place in sorted(places, key=lambda place: (len(laid[place].tokens), place)):
            count = int(laid[place].supervised.sum())
            too_much = (len(batch) + 1) * len(laid[place].tokens) > most or scored + count > SCORED
            if batch and too_much:
                yield batch
                batch, scored = [], 0
            batch.append(place)
            scored += count
        yield batch


def _collated(group: Sequence[Laid], pad: int) -> dict[str, Any]:
    """Samples as one batch: what has a value a token is padded behind, pictures follow each other."""
    import torch

    shape = len(group), max(len(laid.tokens) for laid in group)
    ids, mask = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    per_token = {name: np.zeros(shape, np.int64) for name in group[0].per_token}
    for row, laid in enumerate(group):
        length = len(laid.tokens)
        ids[row, :length], mask[row, :length] = laid.tokens, 1
        for name, values in laid.per_token.items():
            per_token[name][row, :length] = values
    told = {"input_ids": ids, "attention_mask": mask, **per_token}
    made = {name: torch.from_numpy(values) for name, values in told.items()}
    for name in group[0].tensors:
        tensors = [torch.as_tensor(laid.tensors[name]) for laid in group]
        rest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
        made[name] = torch.cat([_filled(tensor, rest) for tensor in tensors])
    return made


def _filled(tensor: Any, rest: Sequence[int]) -> Any:
    """A tensor with zeros behind, up to these sizes of all dimensions but the first."""
    filled = tensor.new_zeros((tensor.shape[0], *rest))
    filled[tuple(slice(size) for size in tensor.shape)] = tensor
    return filled
