"""Vision tokenizers of Emu3: pictures and clips to integers and back, by transformers' `Emu3VQVAE`.

A folder or hub id holds the tokenizer alone (transformers' layout, or BAAI's own names of its weights, which
are renamed), or a whole exported Emu3, whose tokenizer is taken. A code stands for `factor` x `factor`
pixels; a picture has one layer of codes, a clip one for each `chunk` frames (4 in Emu3).

What the released weights were trained for is kept: a picture is a clip of `chunk` equal frames, and each
chunk of a clip is encoded and decoded on its own, without the frames before (Emu3, arXiv 2409.18869; its
demonstration does so). The frames of a picture being equal, its 2-D half runs once instead of `chunk` times,
and of a decoded picture only the first frame is made: the same numbers at about a fourth of the work.

Time is that of the network; memory grows with the pixels of a batch.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from infinity_mm.models.emu3_vq_names import is_original, renamed, renamed_config
from infinity_mm.models.hub import WEIGHTS, hub_folder
from infinity_mm.models.torch_device import torch_device
from infinity_mm.models.torchvision_ops import import_torchvision
from infinity_mm.visual_tokens import TokenizerFacts

KIND = "vision tokenizer"
INSIDE = ("vqmodel.", "model.vqmodel.")  # of a whole Emu3's weights
DTYPES = ("float32", "bfloat16", "float16")
Pixels = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int32]


class Found(NamedTuple):
    """A tokenizer as it lies on disk: `fields` of its Emu3VQVAEConfig, weights by transformers' names."""

    spec: str
    folder: Path
    fields: dict[str, Any]
    weights: dict[str, Any]
    facts: TokenizerFacts

    def model(self) -> Any:
        """The `Emu3VQVAE`, float32, in eval mode. Raises ValueError where weights don't fit the fields."""
        return _model(self.spec, self.fields, self.weights)

    def load(self, device: str | None = None, dtype: str = "float32") -> "VisionTokenizer":
        place, _ = torch_device(self.spec, device, KIND)
        return VisionTokenizer(self.model(), self.facts, place, dtype)


def find_tokenizer(spec: str | Path) -> Found:
    """A tokenizer by hub id or folder. Raises ValueError, in one line with the way out, for one that can't be
    had. Reads all weights: what they are is in the digest."""
    import_torch(str(spec))
    from safetensors.torch import load_file

    folder = _folder(str(spec))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files = sorted(folder.glob(WEIGHTS))
    if not files:
        raise ValueError(f"{KIND} {spec}: no weights in {folder} ({WEIGHTS})")
    try:
        weights = {name: value for file in files for name, value in load_file(file).items()}
    except Exception as error:  # safetensors has its own
        raise ValueError(f"{KIND} {spec}: weights in {folder} can't be read: {error}") from None
    if "vq_config" in config:
        config, whole = config["vq_config"], weights
        weights = {n.removeprefix(p): v for p in INSIDE for n, v in whole.items() if n.startswith(p)}
    elif is_original(weights):
        config, weights = renamed_config(config), renamed(weights)
    if not any(name.startswith("encoder.") for name in weights):
        raise ValueError(
            f"{KIND} {spec}: {folder} is of a {config.get('model_type', 'model')!r} and has no Emu3 vision "
            "tokenizer; name a folder written by Emu3VQVAE, BAAI/Emu3-VisionTokenizer or an exported Emu3"
        )
    fields = config_fields(config)
    return Found(str(spec), folder, fields, weights, facts_of(fields, weights))


def _folder(spec: str) -> Path:
    folder = Path(spec)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{KIND} {spec}: the folder has no config.json")
        return folder
    if not spec or spec.count("/") > 1 or spec.startswith((".", "/", "~")):
        raise ValueError(f"{KIND} {spec}: there is no such folder")
    return hub_folder(spec, spec, ["config.json", WEIGHTS], KIND)


def import_torch(spec: str) -> None:
    """Raises ValueError where torch or transformers with Emu3 is not installed."""
    torch_device(spec, "cpu", KIND)
    import_torchvision()
    try:
        from transformers import Emu3VQVAE  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{KIND} {spec} needs transformers 4.48 or later ({error}): pip install 'infinity-mm[models]'"
        ) from None


def config_fields(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of Emu3VQVAEConfig that a configuration gives, with the defaults of those it does not."""
    from transformers import Emu3VQVAEConfig

    whole = Emu3VQVAEConfig().to_dict()
    own = [name for name in SHAPING if name in whole]
    return {name: _plain(config.get(name, whole[name])) for name in own}


SHAPING = (
    "codebook_size", "embed_dim", "latent_channels", "double_latent", "in_channels", "out_channels",
    "temporal_downsample_factor", "base_channels", "channel_multiplier", "num_res_blocks", "attn_resolutions",
    "hidden_size", "num_attention_heads",
)  # fmt: skip


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def facts_of(fields: dict[str, Any], weights: dict[str, Any]) -> TokenizerFacts:
    """What the codes of a tokenizer mean. The digest is of the network and its numbers, however they are
    named on disk: sha256 over the fields, and each tensor's name, type, shape and bytes."""
    import torch

    digest = hashlib.sha256(json.dumps([fields[n] for n in SHAPING]).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"\0{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return TokenizerFacts(
        digest.hexdigest(),
        int(fields["codebook_size"]),
        2 ** (len(fields["channel_multiplier"]) - 1),
        int(fields["temporal_downsample_factor"]),
    )


def _model(spec: str, fields: dict[str, Any], weights: dict[str, Any]) -> Any:
    import torch
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    with torch.random.fork_rng(devices=[]):  # what it begins with is thrown away
        model = Emu3VQVAE(Emu3VQVAEConfig(**fields))
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"{KIND} {spec}: its weights don't fit its config.json: {said}") from None
    if missing or unexpected:
        which = f"lack {missing[0]}" if missing else f"have {unexpected[0]}, which it does not know"
        raise ValueError(f"{KIND} {spec}: its weights don't fit its config.json: they {which}")
    return model.eval()


class VisionTokenizer:
    """An opened tokenizer. All sides of pictures are multiples of `facts.factor`."""

    def __init__(self, model: Any, facts: TokenizerFacts, device: str, dtype: str = "float32") -> None:
        import torch

        self.facts, self.device, self.dtype = facts, device, dtype
        self.model = model.to(device, getattr(torch, dtype)).eval()

    def encode_pictures(self, pixels: Pixels) -> Codes:
        """uint8 [B, H, W, 3] to codes [B, H / factor, W / factor]."""
        import torch

        with torch.inference_mode():
            latents = latents_of_pictures(self.model, self._in(pixels))
            return self._codes(self.model.quantize(latents)[:, 0])

    def encode_chunks(self, frames: Pixels) -> Codes:
        """Chunks, each on its own: uint8 [N, chunk, H, W, 3] to codes [N, H / factor, W / factor]."""
        import torch

        n, chunk = frames.shape[:2]
        assert chunk == self.facts.chunk, f"{chunk} frames are no chunk of {self.facts.chunk}"
        with torch.inference_mode():
            seen = self._in(frames.reshape(-1, *frames.shape[2:]))
            latents = latents_of_clips(self.model, seen.reshape(n, chunk, *seen.shape[1:]))
            return self._codes(self.model.quantize(latents)[:, 0])

    def encode_clip(self, frames: Pixels, batch: int = 8) -> Codes:
        """uint8 [T, H, W, 3] to codes [T / chunk, H / factor, W / factor]. Raises ValueError for a T that the
        chunk does not divide."""
        n, rest = divmod(len(frames), self.facts.chunk)
        if rest or not n:
            raise ValueError(f"{len(frames)} frames make no whole chunks of {self.facts.chunk}")
        chunks = frames.reshape(n, self.facts.chunk, *frames.shape[1:])
        return np.concatenate([self.encode_chunks(chunks[at : at + batch]) for at in range(0, n, batch)])

    def decode_pictures(self, codes: Codes) -> Pixels:
        """Codes [B, h, w] to uint8 [B, h * factor, w * factor, 3]. Raises ValueError for one out of range."""
        return self._decoded(codes[:, None])[:, 0]

    def decode_clip(self, codes: Codes, batch: int = 8) -> Pixels:
        """Codes [t, h, w] to uint8 [t * chunk, h * factor, w * factor, 3], each layer on its own."""
        return np.concatenate(list(self.decode_layers(codes, batch)))

    def decode_layers(self, codes: Codes, batch: int = 8) -> Iterator[Pixels]:
        """The frames of some layers of a clip at a time, uint8 [n * chunk, H, W, 3]."""
        for at in range(0, len(codes), batch):
            made = self._decoded(codes[at : at + batch, None], whole=True)
            yield made.reshape(-1, *made.shape[2:])

    def _decoded(self, codes: Codes, whole: bool = False) -> Pixels:
        """Codes [B, 1, h, w] to uint8 [B, frames, H, W, 3], all frames or the first."""
        import torch

        codes = np.asarray(codes)
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < self.facts.codebook:
            raise ValueError(
                f"codes from {codes.min()} to {codes.max()}: this tokenizer has 0 to "
                f"{self.facts.codebook - 1}"
            )
        with torch.inference_mode():
            ids = torch.from_numpy(codes.astype(np.int64)).to(self.device)
            vectors = self.model.quantize.embedding(ids).permute(0, 1, 4, 2, 3)
            made = pixels_of(self.model, vectors, frames=None if whole else 1)
            bytes_ = made.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
            return np.ascontiguousarray(bytes_.permute(0, 1, 3, 4, 2).cpu().numpy())

    def _in(self, pixels: Pixels) -> Any:
        """uint8 [N, H, W, 3] to [N, 3, H, W] from -1 to 1."""
        import torch

        factor, (height, width) = self.facts.factor, pixels.shape[1:3]
        assert height % factor == width % factor == 0, f"{height} x {width} is no multiple of {factor}"
        seen = (
            torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device).permute(0, 3, 1, 2)
        )
        return seen.to(self.model.dtype).div(127.5).sub(1)

    def _codes(self, codes: Any) -> Codes:
        return np.asarray(codes.to("cpu").numpy(), np.int32)


def latents_of_pictures(model: Any, pixels_BCHW: Any) -> Any:
    """What is quantised of pictures, [B, 1, D, h, w]: clips of equal frames, whose 2-D half runs once."""
    seen = _planes(model.encoder, pixels_BCHW)
    frames = model.config.temporal_downsample_factor
    return _along_time(model, seen[:, None].expand(-1, frames, -1, -1, -1))


def latents_of_clips(model: Any, pixels_BTCHW: Any) -> Any:
    """What is quantised of whole chunks, [B, T / chunk, D, h, w]."""
    seen = _planes(model.encoder, pixels_BTCHW.flatten(0, 1))
    return _along_time(model, seen.unflatten(0, pixels_BTCHW.shape[:2]))


def _planes(encoder: Any, pixels_NCHW: Any) -> Any:
    """The 2-D half of the encoder, frame by frame."""
    import torch.nn.functional as F

    seen = encoder.middle_block(encoder.down_block(encoder.conv_in(pixels_NCHW)))
    return encoder.conv_out(F.silu(encoder.norm_out(seen)))


def _along_time(model: Any, seen_BTCHW: Any) -> Any:
    """The half of the encoder that mixes frames, and the way to the codebook."""
    import torch.nn.functional as F

    seen = seen_BTCHW.transpose(1, 2)
    for conv in model.encoder.time_conv:
        seen = F.silu(conv(seen))
    for block in model.encoder.time_res_stack:
        seen = block(seen)
    return model.quant_conv(seen).transpose(1, 2)


def pixels_of(model: Any, vectors_BTDHW: Any, frames: int | None = None) -> Any:
    """Frames decoded from vectors of the codebook, [B, T * chunk, 3, H, W], or the first `frames` of them."""
    import torch
    import torch.nn.functional as F

    decoder = model.decoder
    vectors = vectors_BTDHW.transpose(1, 2)
    both = torch.cat([model.post_quant_conv(vectors), vectors])
    for block in decoder.time_res_stack:
        both = block(both)
    for conv in decoder.time_conv:
        both = F.silu(conv(both))
    hidden, quant = both[:, :, :frames].transpose(1, 2).chunk(2)
    shape, hidden, quant = hidden.shape[:2], hidden.flatten(0, 1), quant.flatten(0, 1)
    hidden = decoder.up_block(decoder.middle_block(decoder.conv_in(hidden), quant), quant)
    made = decoder.conv_out(F.silu(decoder.norm_out(hidden, quant)))
    return made.unflatten(0, shape)
