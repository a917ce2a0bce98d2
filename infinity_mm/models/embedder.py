"""Embedders: pictures and texts as unit vectors, by a model that a short text names.

    open_clip:MODEL/PRETRAINED   open_clip's models by their tag, such as ViT-B-32/laion2b_s34b_b79k
    open_clip:MODEL/FILE         the same with weights of one's own (.pt, .safetensors)
    open_clip:FOLDER             a folder with open_clip_config.json and weights
    hf:ID_OR_FOLDER              a transformers model: a vision tower, or CLIP, SigLIP and their like
    onnx:FILE?mean=…&std=…       an ONNX graph from one picture to one vector
    tiny                         the small CLIP that ships: it knows `imm scenes` and nothing else

What a model is, `find_embedder` tells from its files alone: their digest keys every cache. Vectors depend on
the batch that a picture comes in, by rounding: callers that promise equal bytes keep their batches equal.
Time and memory are the model's; nothing grows with the number of pictures.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from infinity_mm.sidecars import installed
from infinity_mm.store import digest_of

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


class Model(NamedTuple):
    """A loaded model's parts, from which an Embedder is made.

    `prepare`: uint8 [H, W, 3] RGB -> what a batch stacks; `pictures`: such a stack -> [n, dim], of any length
    and dtype; `texts`: the same for texts, or None; `dtype` is what the model computes in.
    """

    dim: int
    dtype: str
    prepare: Callable[[Pixels], np.ndarray]
    pictures: Callable[[np.ndarray], np.ndarray]
    texts: Callable[[Sequence[str]], np.ndarray] | None


class Found:
    """A model that is there, not loaded yet.

    `content`: what decides its vectors, as plain values: digests of its files, configuration, preprocessing.
    `device`: cpu or cuda (or cuda:N). `side`: the shorter side in pixels of what the model sees. `load` takes
    the number of threads of a model that has its own (None for all cores).
    """

    def __init__(
        self,
        spec: str,
        *,
        content: Callable[[], Any],
        libraries: Sequence[str],
        device: str,
        dtype: str,
        side: int,
        has_texts: bool,
        load: Callable[[int | None], Model],
    ) -> None:
        self.spec, self.device, self.dtype, self.side = spec, device, dtype, side
        self.libraries, self.has_texts = tuple(libraries), has_texts
        self._content, self._load = content, load

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the model's files and configuration, whatever they are called and wherever."""
        return digest_of(self._content())[:16]

    @property
    def min_side(self) -> int:
        """The shorter side that a decode should keep: above twice what the model sees, shrinking by powers
        of two is no loss that a resize from full size would not have."""
        return 2 * self.side

    def key(self) -> list[Any]:
        """What vectors depend on besides their input."""
        return [self.digest, self.dtype, self.device.partition(":")[0], installed(self.libraries)]

    def load(self, threads: int | None = None) -> "Embedder":
        """Load the model. Raises ValueError for files that are not what they should be."""
        return Embedder(self, self._load(threads))


class Embedder:
    """A loaded model. `dim`: components of a vector; `dtype`: what the model computes in."""

    def __init__(self, found: Found, model: Model) -> None:
        self.found, self._model = found, model
        self.spec, self.device, self.min_side = found.spec, found.device, found.min_side
        self.dim, self.dtype = model.dim, model.dtype

    @property
    def digest(self) -> str:
        return self.found.digest

    def prepare(self, pixels: Pixels) -> np.ndarray:
        """One picture, uint8 [H, W, 3] RGB, as the model takes it: what a thread can do while it works."""
        return self._model.prepare(pixels)

    def vectors(self, prepared: np.ndarray) -> Vectors:
        """A stack of prepared pictures -> float32 [n, dim], of unit length; NaN where the model gave zeros
        or NaN."""
        return unit(self._model.pictures(prepared))

    def images(self, pictures: Sequence[Pixels]) -> Vectors:
        """uint8 [H, W, 3] RGB pictures -> float32 [n, dim], of unit length, in one batch.

        Raises ValueError where the model gave zeros or NaN.
        """
        if not len(pictures):
            return np.zeros((0, self.dim), np.float32)
        return self._checked(self.vectors(np.stack([self.prepare(p) for p in pictures])), "picture")

    def texts(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, dim], of unit length, in one batch; each cut to the model's context.

        Raises ValueError where the model has no text side, or gave zeros or NaN.
        """
        if self._model.texts is None:
            raise ValueError(f"embedder {self.spec} embeds pictures only: name one with texts, {WITH_TEXTS}")
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        return self._checked(unit(self._model.texts(texts)), "text")

    def _checked(self, vectors: Vectors, what: str) -> Vectors:
        lost = np.flatnonzero(np.isnan(vectors[:, 0]))
        if len(lost):
            raise ValueError(f"embedder {self.spec} gave zeros or NaN for {what} {int(lost[0])}")
        return vectors


WITH_TEXTS = "such as open_clip:ViT-B-32/laion2b_s34b_b79k or hf:google/siglip-base-patch16-224"


def unit(rows: np.ndarray) -> Vectors:
    """Rows as float32 of length 1; NaN where a row is zero or not finite."""
    wide = rows.astype(np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    length[~np.isfinite(length) | (length == 0)] = np.nan
    out: Vectors = (wide / length[:, None]).astype(np.float32)
    out[np.isnan(length)] = np.nan
    return out


def _open_clip(rest: str, device: str | None) -> Found:
    from infinity_mm.models.open_clip_models import find

    return find(rest, device)


def _hf(rest: str, device: str | None) -> Found:
    from infinity_mm.models.hf import find

    return find(rest, device)


def _onnx(rest: str, device: str | None) -> Found:
    from infinity_mm.models.onnx import find

    return find(rest, device)


def _tiny(rest: str, device: str | None) -> Found:
    from infinity_mm.models.open_clip_models import find_tiny

    return find_tiny(rest, device)


EMBEDDERS: dict[str, Callable[[str, str | None], Found]] = {
    "open_clip": _open_clip,
    "hf": _hf,
    "onnx": _onnx,
    "tiny": _tiny,
}


def find_embedder(spec: str, device: str | None = None) -> Found:
    """The embedder that a text names; its files are looked for, and fetched from a hub if need be.

    `device`: cpu, cuda or cuda:N; None takes the GPU where there is one. Raises ValueError, in one line with
    the way out.
    """
    kind, _, rest = spec.partition(":")
    if kind not in EMBEDDERS:
        near = get_close_matches(kind, EMBEDDERS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = "open_clip:MODEL/PRETRAINED, hf:ID_OR_FOLDER, onnx:FILE or tiny"
        raise ValueError(f"no embedder {spec!r}: name one as {known}{hint}")
    return EMBEDDERS[kind](rest, device)


def open_embedder(spec: str, device: str | None = None) -> Embedder:
    """The embedder that a text names, loaded. Raises ValueError."""
    return find_embedder(spec, device).load()
