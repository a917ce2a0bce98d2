"""Vision-language models in this process, by transformers: any image-text-to-text model, by hub id or folder.

Each request goes through the model's own chat template and processor by itself, so that one which can't be
prepared harms no other; those of like length are then padded on the left to a batch. A batch that needs more
memory than there is is asked again in halves. A greedy reply is the same in any batch up to rounding, and so
is one that is drawn: each has a generator of its own. Choices are followed along their tokens, as the model's
tokenizer writes them; JSON schemas by xgrammar, where it is installed.

Time and memory are the model's; of the requests, those of WINDOW batches are prepared at a time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from infinity_mm.engines.base import Answer, EngineError, Failure, Identity, Message, Picture, Request
from infinity_mm.engines.checks import Refused, fits, images_of, one_line, parts_of, plain, special_tokens
from infinity_mm.engines.memory import free, out_of_memory
from infinity_mm.engines.model_files import model_digest, model_folder
from infinity_mm.models.torch_device import torch_device
from infinity_mm.models.torchvision_ops import import_torchvision
from infinity_mm.sidecars import installed

WINDOW = 4  # batches
DTYPES = ("float32", "bfloat16", "float16")
LIBRARIES = ("torch", "transformers", "tokenizers", "xgrammar")


def open_hf(rest: str, device: str | None, *, batch: int = 16, dtype: str | None = None) -> "HfEngine":
    """The model of a folder or a hub id, loaded: float32 on a CPU, bfloat16 on a GPU, or `dtype`.

    `device`: cpu, cuda or cuda:N; None takes the GPU where there is one. `batch`: requests at a time. Raises
    ValueError, in one line with the way out.
    """
    spec = f"transformers:{rest}"
    device, _ = torch_device(spec, device, "engine")
    if batch < 1:
        raise ValueError(f"engine {spec}: batch {batch}: give 1 or more")
    if dtype not in (None, *DTYPES):
        raise ValueError(f"engine {spec}: dtype {dtype!r}: give {', '.join(DTYPES)}")
    folder = model_folder(rest, spec)
    with suppress(ImportError):  # transformers prepares pictures without it too
        import_torchvision()
    try:
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ValueError(
            f"engine {spec} needs transformers ({error}): pip install 'infinity-mm[models]'"
        ) from None
    import torch

    disable_progress_bar()  # the command has its own
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, dtype=getattr(torch, dtype), output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ValueError(f"engine {spec}: transformers can't load {folder}: {one_line(error)}") from None
    model, loading = loaded
    if missing := set(loading["missing_keys"]):
        raise ValueError(
            f"engine {spec}: the checkpoint lacks {len(missing)} weights, such as {min(missing)}; it may be "
            "of another version of transformers"
        )
    return HfEngine(spec, folder, model.to(device).eval(), processor, batch, dtype, device)


class Prepared(NamedTuple):
    """A request as the model takes it: what its processor made, a batch of one."""

    place: int
    request: Request
    inputs: Mapping[str, Any]

    @property
    def length(self) -> int:
        return int(self.inputs["input_ids"].shape[1])


class HfEngine:
    """A model that transformers has loaded, and its processor."""

    def __init__(
        self, spec: str, folder: Path, model: Any, processor: Any, batch: int, dtype: str, device: str
    ) -> None:
        from transformers import GenerationConfig

        self.spec, self.folder, self.batch, self.dtype, self.device = spec, folder, batch, dtype, device
        self.model, self.processor = model, processor
        self.tokenizer: Any = getattr(processor, "tokenizer", None)
        if self.tokenizer is None:
            raise ValueError(f"engine {spec}: the model has no processor of pictures and texts together")
        ends = model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        self.ends = frozenset(end for end in (*listed, self.tokenizer.eos_token_id) if end is not None)
        if not self.ends:
            raise ValueError(f"engine {spec}: the model has no token that ends a reply (eos_token_id)")
        pad = self.tokenizer.pad_token_id
        self.pad = min(self.ends) if pad is None else pad
        # The model's own habits, such as a penalty on repetition, would be part of every reply.
        model.generation_config = GenerationConfig(
            pad_token_id=self.pad, bos_token_id=model.generation_config.bos_token_id, do_sample=False
        )
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.marks = special_tokens(self.tokenizer)
        self.parts = _takes_parts(spec, processor)
        self._compilers: dict[str, Any] = {}

    @cached_property
    def identity(self) -> Identity:
        libraries = ", ".join(f"{name} {version}" for name, version in installed(LIBRARIES).items())
        device = self.device.partition(":")[0]
        return Identity("transformers", model_digest(self.folder), self.dtype, device, libraries)

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """As `Engine` has it; the answers of a batch come together. Raises ValueError for a schema where
        xgrammar is not installed."""
        if any(request.schema is not None for request in requests):
            self._xgrammar()
        for start in range(0, len(requests), WINDOW * self.batch):
            prepared = []
            for place in range(start, min(start + WINDOW * self.batch, len(requests))):
                try:
                    prepared.append(Prepared(place, requests[place], self._inputs(requests[place])))
                except Refused as refused:
                    yield place, refused.failure
            for group in _alike(prepared, self.batch):
                yield from self._answers(group)

    def close(self) -> None:
        """Give the model's memory back."""
        self.model = None
        free()

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def spelling(self, token: int) -> str:
        """A token alone, special ones too; bytes that are no character yet are U+FFFD."""
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))

    def _inputs(self, request: Request) -> Mapping[str, Any]:
        """A request as the model takes it. Raises Refused."""
        plain(request, self.marks)
        images = images_of(request)
        turns = [{"role": message.role, "content": self._content(message)} for message in request.messages]
        try:
            prompt = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program of the model's maker
            raise Refused("refused_by_template", error) from None
        try:
            inputs = self.processor(
                text=[prompt],
                images=[images] if images else None,
                add_special_tokens=False,  # the template has them
                return_tensors="pt",
            )
        except Exception as error:  # a processor raises at will on what it does not take
            raise Refused("refused", f"{type(error).__name__}: {error}") from None
        fits(inputs["input_ids"].shape[1], request, self.context)
        return dict(inputs)

    def _content(self, message: Message) -> Any:
        if not self.parts:
            token = self.processor.image_token
            return "".join(token if isinstance(part, Picture) else part for part in parts_of(message))
        return [
            {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": part}
            for part in parts_of(message)
        ]

    def _answers(self, group: Sequence[Prepared]) -> Iterator[tuple[int, Answer]]:
        try:
            answers = self._write(group)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise EngineError(f"engine {self.spec}: {one_line(error)}") from error
            answers = []
        if answers:
            yield from zip((one.place for one in group), answers, strict=True)
            return
        free()
        if len(group) == 1:
            yield group[0].place, Failure("out_of_memory", f"{group[0].length} tokens, on {self.device}")
            return
        half = len(group) // 2
        yield from self._answers(group[:half])
        yield from self._answers(group[half:])

    def _write(self, group: Sequence[Prepared]) -> list[Answer]:
        """The answers to a batch."""
        import torch

        from infinity_mm.engines.hf_writing import Done, Row, Writer

        rows = [Row(one.request, one.length, self.ends, self._constraint(one.request)) for one in group]
        with torch.inference_mode():
            inputs = {
                name: value.to(self.device, self.model.dtype if value.is_floating_point() else value.dtype)
                for name, value in collate([one.inputs for one in group], self.pad).items()
            }
            self.model.generate(
                **inputs,
                max_new_tokens=max(row.request.max_tokens for row in rows),
                logits_processor=[Writer(rows, self.pad, self.decode, self.spelling)],
                stopping_criteria=[Done(rows)],
            )
        return [row.answer(self.decode) for row in rows]

    def _constraint(self, request: Request) -> Any:
        from infinity_mm.engines.hf_writing import Fitting, OneOf, trie

        if request.choices:
            tokens = [self.tokenizer.encode(c, add_special_tokens=False) for c in request.choices]
            return OneOf(trie(tokens, sorted(self.ends)))
        if request.schema is not None:
            return Fitting(self._compiled(json.dumps(request.schema, sort_keys=True)))
        return None

    def _compiled(self, schema: str) -> Any:
        """A schema as xgrammar has it."""
        if schema not in self._compilers:
            self._compilers[schema] = self._compiler.compile_json_schema(schema)
        return self._compilers[schema]

    @cached_property
    def _compiler(self) -> Any:
        xgrammar = self._xgrammar()
        size = self.model.get_output_embeddings().weight.shape[0]
        return xgrammar.GrammarCompiler(
            xgrammar.TokenizerInfo.from_huggingface(
                self.tokenizer, vocab_size=size, stop_token_ids=sorted(self.ends)
            )
        )

    def _xgrammar(self) -> Any:
        try:
            import xgrammar
        except ImportError as error:
            raise ValueError(
                f"engine {self.spec}: a JSON schema needs xgrammar ({error}): pip install xgrammar"
            ) from None
        return xgrammar


def collate(inputs: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Any]:
    """Batches of one as one batch: what has a value a token is padded on the left, the rest behind."""
    import torch

    longest = max(one["input_ids"].shape[1] for one in inputs)
    made = {}
    for name in inputs[0]:
        tensors = []
        for one in inputs:
            value, length = one[name], one["input_ids"].shape[1]
            if value.ndim > 1 and value.shape[:2] == (1, length):
                ahead = value.new_full(
                    (1, longest - length, *value.shape[2:]), pad if name == "input_ids" else 0
                )
                value = torch.cat([ahead, value], dim=1)
            tensors.append(value)
        rest = [max(sizes) for sizes in zip(*(value.shape[1:] for value in tensors), strict=True)]
        made[name] = torch.cat([_filled(value, rest) for value in tensors])
    return made


def _filled(value: Any, rest: Sequence[int]) -> Any:
    """A tensor with zeros behind, up to these sizes of all dimensions but the first."""
    filled = value.new_zeros((value.shape[0], *rest))
    filled[tuple(slice(size) for size in value.shape)] = value
    return filled


def _alike(prepared: Sequence[Prepared], most: int) -> Iterator[list[Prepared]]:
    """Batches of requests of like length, which have the same kinds of inputs."""
    kinds: dict[frozenset[str], list[Prepared]] = {}
    for one in prepared:
        kinds.setdefault(frozenset(one.inputs), []).append(one)
    for same in kinds.values():
        same.sort(key=lambda one: (one.length, one.place))
        yield from (same[start : start + most] for start in range(0, len(same), most))


def _takes_parts(spec: str, processor: Any) -> bool:
    """Whether a model's template takes a turn as a list of parts, or else as one text with marks of pictures.

    Raises ValueError for a model without a template.
    """
    if not (getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)):
        raise ValueError(f"engine {spec}: the model has no chat template: give one that is tuned to converse")
    turn = {"role": "user", "content": [{"type": "text", "text": "words"}]}
    try:
        shown = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    except Exception:  # a template is a program of the model's maker
        shown = ""
    if "words" in shown and "'type'" not in shown and '"type"' not in shown:
        return True
    if not getattr(processor, "image_token", None):
        raise ValueError(f"engine {spec}: the model's chat template takes no pictures")
    return False
