"""How unlikely a vision-language model finds what the assistant says: the loss that Infinity-MM filters by.

`vlm_loss` is the mean of -log p over the tokens of all assistant turns and those that end them, given all
that was said and shown before (arXiv 2410.18558, section 3.3: Qwen2-VL-2B, the highest 5 % dropped);
`vlm_loss` * `vlm_loss_tokens` is their sum. It does not apply to a sample in which no assistant says
anything, nor to one with a clip. A picture that can't be had or decoded, a conversation that the model's
template refuses or that is longer than its context, and a loss that is no number fail the sample: never 0.

The model is that of `--scorer`; `loss:MODEL` stands for the family with that model. A loss means something
only beside losses of the same model, and of samples of a kind: short answers have others than long ones.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.chat import VERSION as CHAT_VERSION
from infinity_mm.engines.base import Failure, Identity
from infinity_mm.engines.scoring import Sample, Scored, find_scorer
from infinity_mm.executor import Report
from infinity_mm.manifest import Manifest
from infinity_mm.media.errors import MEDIA_ERRORS, MediaError
from infinity_mm.media.index import Library, Unavailable
from infinity_mm.sidecars import Family, Measure
from infinity_mm.store import Store
from pipelines.embed import OneThread
from pipelines.measures.alignment import MODEL, Answer
from pipelines.measures.sample_look import SampleLook

NAME = "vlm_loss"
SHORT = "loss:"  # loss:MODEL, in --with and, in double quotes, in rules
_IN_RULES = re.compile(rf'"{SHORT}([^"]+)"')


def vlm_loss_settings(spec: str, max_pixels: int) -> dict[str, Any]:
    """The settings of the family for a scorer. Raises ValueError for one that can't be had."""
    scorer = [CHAT_VERSION, *find_scorer(spec).identity]
    return {"scorer": scorer, "max_pixels": max_pixels, "_spec": spec}


def on_gpu(settings: dict[str, Any]) -> bool:
    """Whether the scorer of these settings runs on a GPU."""
    return Identity(*settings["scorer"][1:]).device != "cpu"


def with_media(
    store: Store, manifest: Manifest, settings: dict[str, Any], workers: int, report: Report | None
) -> dict[str, Any]:
    """The settings, and where the media lie."""
    return settings | {"_store": store.url, "_manifest": manifest.file}


def open_vlm_loss(settings: dict[str, Any]) -> Callable[[Sequence[SampleLook]], list[Answer]]:
    """A function from samples to their values, or why one has none. `settings`: of `with_media`."""
    store = Store.open(settings["_store"])
    library = Manifest.open(store, settings["_manifest"], check=False).library()
    found = find_scorer(settings["_spec"])
    if [CHAT_VERSION, *found.identity] != settings["scorer"]:
        raise ValueError(f"scorer {settings['_spec']} has changed since the command began; run it again")
    with OneThread(found):
        scorer = found.load(max_pixels=settings["max_pixels"])

    def vlm_loss(looks: Sequence[SampleLook]) -> list[Answer]:
        answers: list[Answer] = [(None, None)] * len(looks)
        there: dict[int, Sample] = {}
        for place, look in enumerate(looks):
            if applies(look):
                try:
                    there[place] = look.sample.turns, _pictures(library, look)
                except Unavailable as error:
                    answers[place] = error
        with OneThread(found):
            scored = scorer.losses(list(there.values()))
        for place, one in zip(there, scored, strict=True):
            answers[place] = _answer(one)
        return answers

    return vlm_loss


def applies(look: SampleLook) -> bool:
    """Whether some assistant says something, and no clip is shown."""
    shows_clip = any(part.type == "video" for turn in look.sample.turns for part in turn.parts)
    return bool(look.answers) and not shows_clip


def _pictures(library: Library, look: SampleLook) -> list[bytes]:
    """The stored media of a sample that its turns show; of others nothing. Raises Unavailable."""
    shown = {part.media for turn in look.sample.turns for part in turn.parts}
    return [library.read(one) if number in shown else b"" for number, one in enumerate(look.sample.media)]


def _answer(scored: Scored) -> Answer:
    if not isinstance(scored, Failure):
        return scored.mean, scored.tokens
    if scored.reason in MEDIA_ERRORS:
        return MediaError(*scored)
    if scored.reason == "out_of_memory":
        return Unavailable(*scored)  # another device may have it
    return ValueError(f"{scored.reason}: {scored.detail}")


def named(rule: str) -> tuple[str, list[str]]:
    """A rule with `vlm_loss` for each "loss:MODEL" in it, and those models."""
    return _IN_RULES.sub(NAME, rule), _IN_RULES.findall(rule)


def one_scorer(given: str | None, models: Sequence[str]) -> str | None:
    """The scorer that an option and `loss:MODEL` name together. Raises ValueError where they name two."""
    every = list(dict.fromkeys([*([given] if given is not None else []), *models]))
    if len(every) > 1:
        raise ValueError(f"losses of two models ({every[0]}, {every[1]}): name one, --scorer or loss:MODEL")
    return every[0] if every else None


VLM_LOSS = Family(
    NAME,
    "samples",
    1,
    {
        NAME: Measure(
            pa.float64(), "nats a token", "loss of what the assistant says, by --scorer", "Infinity-MM 3.3"
        ),
        "vlm_loss_tokens": Measure(pa.int32(), "tokens", "how many it is the mean of, by --scorer"),
    },
    open_vlm_loss,
    ("pillow", "simplejpeg", "numpy"),
    MODEL,
)
