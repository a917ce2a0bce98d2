"""A whole conversation as a model of transformers takes it, with the tokens that an assistant writes known.

The model's chat template lays it out around its texts (`infinity_mm.chat`), so that a text which spells
"<image>" stays a text and each answer's tokens are known by construction. What stands for a picture is the
model's own affair: its processor is asked once for the sample's pictures alone, one after another with the
token that ends a turn between them, and what it made of each is put where the template has its picture.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from infinity_mm.chat import Chat, Encoded, chat_of
from infinity_mm.engines.base import Failure
from infinity_mm.media.decode import DEFAULT_MAX_PIXELS, MediaError, decode_image
from infinity_mm.schema import Part, Turn

PER_TOKEN = "_type_ids"  # how the names of inputs end that say something of each token
PROBE = (Turn("user", (Part("text", "Look."), Part("image", None, 0), Part("text", "What is it?"))),)


class Laid(NamedTuple):
    """A conversation laid out. `per_token`: int64 [T] each, what else the model wants to know of its tokens;
    `tensors`: its pictures as the processor made them, none where there is none."""

    tokens: np.ndarray  # int64 [T]
    supervised: np.ndarray  # bool [T]
    per_token: Mapping[str, np.ndarray]
    tensors: Mapping[str, Any]


class Refused(ValueError):
    """A conversation that can't be laid out; `failure` says why."""

    def __init__(self, reason: str, detail: object) -> None:
        self.failure = Failure(reason, " ".join(str(detail).split())[:300])
        super().__init__(f"{reason}: {self.failure.detail}")


class Layout:
    """A processor of transformers. `pixels`: what a picture is shrunk to where it has more, 0 for none.

    Raises ValueError for one without a chat template that can be laid out, or whose own layout of a question
    about a picture is another.
    """

    def __init__(self, processor: Any, pixels: int = 0, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self.processor, self.pixels, self.max_pixels = processor, pixels, max_pixels
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None or not hasattr(processor, "image_processor"):
            raise ValueError(f"a {type(processor).__name__} takes no pictures")
        template = getattr(processor, "chat_template", None)
        template = template.get("default") if isinstance(template, Mapping) else template
        self.image_token = _image_token(processor)
        video_token = getattr(processor, "video_token", None) or "<video>"
        self.chat: Chat = chat_of(tokenizer, template, image_token=self.image_token, video_token=video_token)
        self._end = tokenizer.convert_ids_to_tokens(self.chat.end_id)
        self._check()

    def lay_out(self, turns: Sequence[Turn], pictures: Sequence[bytes], prompt: bool = False) -> Laid:
        """A conversation with its pictures' stored bytes, which its parts name by number.

        With `prompt`, asked for the next answer. Raises Refused.
        """
        if any(part.type == "video" for turn in turns for part in turn.parts):
            raise Refused("video", "a clip can't be laid out")
        try:
            encoded = self.chat.encode(turns, prompt)
        except ValueError as error:
            raise Refused("bad_conversation", error) from None
        return self._joined(encoded, [self._picture(pictures[number]) for _, number in encoded.media])

    def _picture(self, data: bytes) -> Image.Image:
        try:
            picture = Image.fromarray(decode_image(data, max_pixels=self.max_pixels).pixels)
        except MediaError as error:
            raise Refused(error.code, error.detail) from None
        shrink = (self.pixels / (picture.width * picture.height)) ** 0.5 if self.pixels else 1.0
        if shrink >= 1:
            return picture
        size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
        return picture.resize(size, Image.Resampling.BICUBIC)

    def _joined(self, encoded: Encoded, pictures: Sequence[Image.Image]) -> Laid:
        """The tokens of a conversation with those of its pictures in their places."""
        tokens, supervised = encoded.tokens.astype(np.int64), encoded.supervised.copy()
        supervised[:1] = False  # nothing comes before the first token that could tell it
        if not pictures:
            return Laid(tokens, supervised, {}, {})
        shown, beside, tensors = self._shown(pictures)
        places = [place for place, _ in encoded.media]
        repeats = np.ones(len(tokens), np.int64)
        repeats[places] = [len(ids) for ids in shown]
        supervised = np.repeat(supervised, repeats)
        of_picture = np.repeat(np.isin(np.arange(len(tokens)), places), repeats)
        tokens = np.repeat(tokens, repeats)
        tokens[of_picture] = np.concatenate(shown)
        per_token = {name: np.zeros(len(tokens), np.int64) for name in beside}
        for name, values in beside.items():
            per_token[name][of_picture] = np.concatenate(values)
        return Laid(tokens, supervised, per_token, tensors)

    def _shown(
        self, pictures: Sequence[Image.Image]
    ) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]], dict[str, Any]]:
        """The tokens of each picture, what is said of them, and the tensors of all. Raises Refused."""
        text = self._end.join(["", *[self.image_token] * len(pictures), ""])
        try:
            made = self._processed(text, pictures)
        except Exception as error:  # a processor raises at will on what it does not take
            raise Refused("refused", f"{type(error).__name__}: {error}") from None
        ids = made.pop("input_ids")
        made.pop("attention_mask", None)
        cuts = np.flatnonzero(ids[0].numpy() == self.chat.end_id)
        if len(cuts) != len(pictures) + 1 or cuts[0] != 0 or cuts[-1] != ids.shape[1] - 1:
            raise Refused("refused", f"the processor made {len(cuts) - 1} pictures of {len(pictures)}")
        names = [n for n, value in made.items() if n.endswith(PER_TOKEN) and value.shape == ids.shape]
        spans = [slice(a + 1, b) for a, b in pairwise(cuts)]
        beside = {name: made.pop(name)[0].numpy() for name in names}
        return (
            [ids[0].numpy()[span] for span in spans],
            {name: [values[span] for span in spans] for name, values in beside.items()},
            made,
        )

    def _processed(self, text: str, pictures: Sequence[Image.Image]) -> dict[str, Any]:
        return dict(
            self.processor(
                text=[text],
                images=[list(pictures)],
                add_special_tokens=False,  # the template has them
                return_tensors="pt",
            )
        )

    def _check(self) -> None:
        """Whether the processor's own tokens of a question about a picture are those made here."""
        picture = Image.new("RGB", (96, 64), "gray")
        messages = [
            {"role": turn.role, "content": [{"type": part.type, "text": part.text} for part in turn.parts]}
            for turn in PROBE
        ]
        text = self.processor.apply_chat_template(
            messages, chat_template=self.chat.template, add_generation_prompt=True, tokenize=False
        )
        theirs = self._processed(text, [picture])
        ours = self._joined(self.chat.encode(PROBE, prompt=True), [picture])
        told = {"input_ids": ours.tokens, **ours.per_token}
        for name, values in told.items():
            if theirs[name][0].tolist() != values.tolist():
                raise ValueError(f"its processor lays out a question about a picture otherwise ({name})")
        if set(theirs) - {"attention_mask"} != {*told, *ours.tensors}:
            raise ValueError("its processor says more of a question about a picture than of a picture")


def _image_token(processor: Any) -> str:
    """What stands for a picture in a prompt before the processor has seen it."""
    tokens = [getattr(processor, name, None) for name in ("boi_token", "image_token")]
    known = [token for token in tokens if token]
    if not known:
        raise ValueError(f"a {type(processor).__name__} has no token for a picture")
    try:
        content = [{"type": "image"}, {"type": "text", "text": "x"}]
        shown = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    except Exception:  # a template may do anything; what is wrong with it, `chat_of` says
        shown = ""
    return str(next((token for token in known if token in shown), known[-1]))
