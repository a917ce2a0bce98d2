"""A language model's tokenizer with a picture's and a clip's token in it, and its chat.

`tiny` is the small tokenizer that the shipped models share; it has a picture's token, and its first reserved
one becomes a clip's. Others are given the tokens they lack, behind their own.
"""

from typing import Any, NamedTuple

from infinity_mm.chat import Chat, chat_of
from infinity_mm.chat_template import TEMPLATES
from infinity_mm.models.tokenizer import FILE, IM_END, PAD
from trainers.hub_parts import folder_of, transformers

TINY = "tiny"
VIDEO = "<video>"


class Tokens(NamedTuple):
    """A tokenizer of transformers, how conversations become its tokens, and a picture's and a clip's
    token."""

    tokenizer: Any
    chat: Chat
    image: int
    video: int


def open_tokenizer(named: str, image_token: str = "<image>", template: str | None = None) -> Tokens:
    """The tokenizer that a hub id, a folder or `tiny` means. `template`: name of a built-in chat template,
    for one that brings none.

    Raises ValueError, in one line with the way out.
    """
    transformers()
    if template is not None and template not in TEMPLATES:
        raise ValueError(f"template {template!r}: there is none; there are {', '.join(TEMPLATES)}")
    if named == TINY:
        tokenizer, template = _shared(), template or "chatml"
    else:
        tokenizer = _theirs(named)
    _add(tokenizer, [image_token, VIDEO])
    image, video = tokenizer.convert_tokens_to_ids([image_token, VIDEO])
    chat = chat_of(tokenizer, template, image_token=image_token, video_token=VIDEO)
    return Tokens(tokenizer, chat, image, video)


def _shared() -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    text = FILE.read_text(encoding="utf-8").replace("<|reserved_0|>", VIDEO)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text))
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(PAD)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(IM_END)
    return tokenizer


def _theirs(named: str) -> Any:
    from transformers import AutoTokenizer

    folder = folder_of("tokenizer", named, weights=False)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"tokenizer {named}: transformers can't read it: {said}") from None


def _add(tokenizer: Any, names: list[str]) -> None:
    """Add the special tokens that a tokenizer lacks."""
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    lacking = [AddedToken(name, normalized=False, special=True) for name in names if name not in known]
    if lacking:
        tokenizer.add_tokens(lacking, special_tokens=True)
