"""How many tokens the text of a sample makes: by a Hugging Face tokenizer, or estimated without one.

Counted is the text of the turns alone: no chat template, no special tokens, none for pictures and clips, nor
rejected turns. The estimate adds a weight for every kind of character (ESTIMATE); the weights are those of
a least-squares fit to Emu3.5's byte-level BPE of 151,643 tokens, which is Qwen's, on one half of the labelled
texts beside the checkout; `benchmarks/text_measures.py` prints its error on the other half.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from infinity_mm.sidecars import Family, Measure
from pipelines.measures.characters import HAN, KANA
from pipelines.measures.sample_look import SampleLook

TOKENIZER_FILE = "tokenizer.json"
LONG_WORD = 6  # letters of an ASCII word that come with the word


class Weights(NamedTuple):
    """Tokens for each of: a run of letters, each letter of it past LONG_WORD (ASCII) or each letter (others),
    a Han or kana character, a digit, a run of other visible characters, each further one of it, line ends."""

    word: float
    long_letter: float
    other_letter: float
    han: float
    digit: float
    mark_run: float
    mark: float
    line_end: float


ESTIMATE = Weights(0.98, 0.1, 0.48, 0.69, 1.27, 0.93, 0.46, 0.84)
_WORDS = re.compile(rf"[^\W\d_{HAN}{KANA}]+")
_HAN, _MARKS, _LINE_ENDS = re.compile(f"[{HAN}{KANA}]"), re.compile(r"(?:[^\w\s]|_)+"), re.compile(r"\n+")
_DIGIT = re.compile(r"\d")


def character_counts(text: str) -> tuple[int, ...]:
    """How often each thing occurs that Weights has a weight for."""
    words = _WORDS.findall(text)
    if text.isascii():
        other_letters = han = 0
        long_letters = sum([len(w) - LONG_WORD for w in words if len(w) > LONG_WORD])
    else:
        other_letters = sum([len(w) for w in words if not w.isascii()])
        han = len(_HAN.findall(text))
        long_letters = sum([len(w) - LONG_WORD for w in words if len(w) > LONG_WORD and w.isascii()])
    runs = _MARKS.findall(text)
    return (
        len(words),
        long_letters,
        other_letters,
        han,
        len(_DIGIT.findall(text)),
        len(runs),
        len("".join(runs)) - len(runs),
        len(_LINE_ENDS.findall(text)) if "\n" in text else 0,
    )


def estimated_tokens(text: str) -> float:
    return sum([weight * count for weight, count in zip(ESTIMATE, character_counts(text), strict=True)])


def resolve_tokenizer(text: str) -> dict[str, str]:
    """The settings of the tokens family for a tokenizer.json file, a folder with one, or a hub id.

    `_tokenizer`: the path of the file here; `tokenizer_sha256`: its content, on which the counts depend.
    Raises ValueError, in one line with the way out, where there is none.
    """
    path = Path(text)
    if path.is_dir():
        path = path / TOKENIZER_FILE
        if not path.is_file():
            raise ValueError(
                f"tokenizer {text}: the folder has no {TOKENIZER_FILE}; write one with transformers: "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
    elif not path.is_file():
        path = _from_hub(text)
    return {
        "_tokenizer": str(path.resolve()),
        "tokenizer_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if name.count("/") > 1 or name.startswith((".", "/", "~")) or name.endswith(".json"):
        raise ValueError(f"tokenizer {name}: there is no such file or folder")
    try:
        return Path(hf_hub_download(name, TOKENIZER_FILE))
    except (OSError, ValueError, EntryNotFoundError) as error:
        raise ValueError(
            f"tokenizer {name}: no such file or folder, and the Hugging Face hub gave no {TOKENIZER_FILE} of "
            f"that name ({type(error).__name__}); give the path of a {TOKENIZER_FILE} or of a folder with one"
        ) from None


def open_tokens(settings: dict[str, Any]) -> Callable[[SampleLook], Sequence[Any]]:
    """`settings`: what `resolve_tokenizer` gave, or nothing for the estimate. Raises ValueError."""
    count = _counter(settings) if settings.get("_tokenizer") else estimated_tokens

    def tokens(look: SampleLook) -> Sequence[Any]:
        told = sum([count(text) for text in look.answers])
        rest = sum([count(text) for role, text in look.turns if role != "assistant" and text])
        return round(told + rest), round(told)

    return tokens


def _counter(settings: dict[str, Any]) -> Callable[[str], int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ValueError("counting tokens by a tokenizer needs the library: pip install tokenizers") from None
    path = Path(settings["_tokenizer"])
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != settings["tokenizer_sha256"]:
        raise ValueError(f"tokenizer {path} has changed since the command began; run it again")
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"tokenizer {path} is not a Hugging Face {TOKENIZER_FILE}: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        # one text at a time: the library's batches start threads, which a forked worker can't use
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


TOKENS = Family(
    "tokens",
    "samples",
    1,
    {
        "tokens": Measure(pa.int64(), "tokens", "text of all turns, by the tokenizer given, else estimated"),
        "answer_tokens": Measure(pa.int64(), "tokens", "text of all answers, likewise"),
    },
    open_tokens,
    ("tokenizers",),
)
