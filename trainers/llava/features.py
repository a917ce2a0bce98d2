"""A vision tower's features as the image tokens of pictures and clips, as transformers' LlavaOnevision has
them.

See `infinity_mm.image_tokens` for what becomes of them; `arrange` gives as many as that counts, always.
Shapes: G features along a tile's side, C channels, B visuals of one size and kind, which are arranged at
once.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F

from infinity_mm.image_tokens import Geometry, Visual


def arrange(
    tiles_NGC: torch.Tensor, visuals: Sequence[Visual], geometry: Geometry, newline_C: torch.Tensor
) -> torch.Tensor:
    """The features of all visuals in order: [their tokens, C], from those of all their tiles [N, G², C]."""
    counts = [geometry.tiles(visual) for visual in visuals]
    starts = list(accumulate(counts, initial=0))
    alike: dict[Visual, list[int]] = {}
    for place, visual in enumerate(visuals):
        alike.setdefault(visual, []).append(place)
    arranged: list[torch.Tensor] = [newline_C] * len(visuals)
    for visual, places in alike.items():
        of_each = torch.stack([tiles_NGC[starts[p] : starts[p] + counts[p]] for p in places])
        for place, features in zip(places, _alike(of_each, visual, geometry, newline_C), strict=True):
            arranged[place] = features
    return torch.cat(arranged)


def _alike(
    tiles_BNGC: torch.Tensor, visual: Visual, geometry: Geometry, newline_C: torch.Tensor
) -> torch.Tensor:
    """The features of visuals of one size and kind: [B, tokens, C]."""
    batch, channels = len(tiles_BNGC), tiles_BNGC.shape[-1]
    newline_B1C = newline_C.expand(batch, 1, channels)
    if visual.kind == "clip":
        return torch.cat([_pooled(tiles_BNGC, geometry.grid).flatten(1, 2), newline_B1C], dim=1)
    if visual.kind == "several" or not geometry.pinpoints:
        return torch.cat([tiles_BNGC[:, 0], newline_B1C], dim=1)
    grid_BTC = _grid(tiles_BNGC[:, 1:], visual, geometry, newline_C)
    return torch.cat([tiles_BNGC[:, 0], grid_BTC], dim=1)


def _pooled(tiles_BNGC: torch.Tensor, grid: int) -> torch.Tensor:
    """Each tile halved in height and width: [B, N, about G²/4, C]."""
    batch, number, _, channels = tiles_BNGC.shape
    planes = tiles_BNGC.reshape(batch * number, grid, grid, channels).permute(0, 3, 1, 2)
    half = (grid + 1) // 2
    planes = F.interpolate(planes.contiguous(), size=(half, half), mode="bilinear")
    return planes.flatten(2).transpose(1, 2).reshape(batch, number, half * half, channels)


def _grid(
    tiles_BNGC: torch.Tensor, visual: Visual, geometry: Geometry, newline_C: torch.Tensor
) -> torch.Tensor:
    """The tiles of a grid put together, cut, shrunk, a newline after each row: [B, tokens, C]."""
    cut = geometry.cut(visual.width, visual.height)
    batch, channels, grid = len(tiles_BNGC), tiles_BNGC.shape[-1], geometry.grid
    plane_BCHW = (
        tiles_BNGC.reshape(batch, cut.rows, cut.columns, grid, grid, channels)
        .permute(0, 5, 1, 3, 2, 4)
        .reshape(batch, channels, cut.rows * grid, cut.columns * grid)
    )
    plane_BCHW = plane_BCHW[
        :, :, cut.top : cut.top + cut.height, cut.left : cut.left + cut.width
    ].contiguous()
    if (cut.to_height, cut.to_width) != (cut.height, cut.width):
        plane_BCHW = F.interpolate(plane_BCHW, size=(cut.to_height, cut.to_width), mode="bilinear")
    newline_BCH1 = newline_C[:, None, None].expand(batch, channels, cut.to_height, 1)
    return torch.cat([plane_BCHW, newline_BCH1], dim=3).flatten(2).transpose(1, 2)
