"""A small stand-in for a model and its data, typed as the trainers' loop takes them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from infinity_mm.progress import Progress
from trainers.batch import Pack
from trainers.checkpoint import Checkpoints
from trainers.config import Compute, Optimizer, Saving, Schedule
from trainers.loop import Run
from trainers.monitor import Cost, Monitor
from trainers.optim import adamw, freeze
from trainers.parallel import World, distribute

VOCABULARY, WIDTH, SIDE = 17, 8, 2
torch.set_num_threads(1)  # more of them only wait for each other on so little work


class Toy(nn.Module):
    """A bag of what came before in a document, and of its pictures; drops a share out, so needs its seed."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.tower = nn.Linear(3 * SIDE * SIDE, WIDTH)
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.dropout = dropout

    def forward(self, pack: Pack) -> torch.Tensor:
        """float32 [S]. Every layer runs once, on an empty pack too: under FSDP each run is a collective."""
        tiles_N = pack.tiles_N if len(pack.tiles_N) else pack.tiles_N.new_zeros(1, 3, SIDE, SIDE)
        seen_ND = self.tower((tiles_N.flatten(1) / 255).to(self.embed.weight.dtype)) * bool(len(pack.tiles_N))
        starts = pack.starts_D.tolist()
        bags = []
        for number, (a, b) in enumerate(pairwise(starts)):
            x_TD = self.embed(pack.tokens_T[a:b])
            x_TD = x_TD + (seen_ND[number] if number < len(pack.tiles_N) else 0)
            bags.append(x_TD.cumsum(0) / torch.arange(1, b - a + 1)[:, None].to(x_TD))
        x_TD = torch.cat(bags) if bags else seen_ND + self.embed.weight[:1] * 0
        for layer in self.layers:
            x_TD = x_TD + nn.functional.dropout(layer(x_TD), self.dropout, self.training)
        logits_SV = self.head(self.norm(x_TD)[pack.target_at_S]).float()
        return nn.functional.cross_entropy(logits_SV, pack.targets_S, reduction="none") + 0 * seen_ND.sum()


class Doc(NamedTuple):
    tokens: np.ndarray
    supervised: np.ndarray
    tile: np.ndarray | None
    source: int


def document(number: int) -> Doc:
    """A document of its own length, share of supervised tokens, source, and with a picture or none."""
    rng = np.random.default_rng(number)
    tokens = rng.integers(0, VOCABULARY, rng.integers(3, 12))
    supervised = rng.random(len(tokens)) < (0.0, 0.2, 0.9)[number % 3]
    supervised[0] = False
    tile = rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8) if number % 4 else None
    return Doc(tokens, supervised, tile, number % 2)


def pack(docs: Sequence[Doc]) -> Pack:
    """Documents in one row. Those without a picture must come last."""
    docs = sorted(docs, key=lambda d: d.tile is None)
    starts = np.cumsum([0, *(len(d.tokens) for d in docs)])
    at = [a + np.flatnonzero(d.supervised) for a, d in zip(starts, docs, strict=False)]
    tiles = [d.tile for d in docs if d.tile is not None]
    flat = np.concatenate([d.tokens for d in docs]) if docs else np.empty(0, np.int64)
    places = np.concatenate(at) if docs else np.empty(0, np.int64)
    sources = [np.full(len(a), d.source) for a, d in zip(at, docs, strict=True)]
    return Pack(
        tokens_T=torch.from_numpy(flat).long(),
        positions_T=torch.cat([torch.arange(len(d.tokens)) for d in docs]) if docs else torch.empty(0).long(),
        starts_D=torch.from_numpy(starts).int(),
        targets_S=torch.from_numpy(flat[places]).long(),
        target_at_S=torch.from_numpy(places - 1).long(),
        weights_S=torch.ones(len(places)),
        sources_S=torch.from_numpy(np.concatenate(sources) if docs else np.empty(0)).long(),
        visuals=(),
        tiles_N=torch.from_numpy(np.stack(tiles) if tiles else np.empty((0, 3, SIDE, SIDE), np.uint8)),
    )


class ToyStep(NamedTuple):
    packs: list[Pack]
    consumed: int
    sample_ids: list[bytes]
    skipped: list[dict[str, Any]]


def work(cursor: int, until: int, batch: int, rank: int = 0, size: int = 1) -> Iterator[ToyStep]:
    """Steps of `batch` documents in packs of two, a pack of each step for each rank in turn."""
    for start in range(cursor, until, batch):
        packs = [pack([document(n), document(n + 1)]) for n in range(start, start + batch, 2)]
        packs += [pack([])] * (-len(packs) % size)
        ids = [n.to_bytes(16, "big") for n in range(start, start + batch)]
        yield ToyStep(packs[rank::size], start + batch, ids, [])


def start(folder: Path, world: World, *, steps: int, dropout: float = 0.0, **more: Any) -> Run:
    """A run of the toy in `folder`, from the beginning."""
    torch.manual_seed(0)
    model = Toy(dropout)
    freeze(dict(model.named_parameters()), more.get("train", ("*",)))
    settings = more.get("settings") or Optimizer(lr={"*": 1e-2, "tower": 5e-3}, decay=0.1)
    model = distribute(model, more.get("compute") or Compute(dtype="float32"), world)
    return Run(
        model=model,
        optimizer=adamw(model, settings),
        world=world,
        checkpoints=Checkpoints(folder / "checkpoints", more.get("keep", 2), world),
        monitor=Monitor(
            folder,
            world,
            steps=steps,
            step=0,
            sources=("even", "odd"),
            cost=lambda pack: Cost(len(pack.tokens_T), 0),
            peak=1e6,
            label="toy",
            progress=Progress(quiet=True),
        ),
        about={"world": world.size, "segments": [{"from": 0}]},
        settings=settings,
        schedule=Schedule(warmup=0.1),
        saving=Saving(every=more.get("every", 4)),
        steps=steps,
    )


ALONE = World(0, 1, torch.device("cpu"))
