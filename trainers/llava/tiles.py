"""Pictures as the square tiles that a vision tower takes, to the pixel as transformers' LlavaOnevision does.

It is the arithmetic of its processor for PIL, doubles included; the one for torchvision rounds a resized
pixel otherwise by a step of 255 here and there. Of a picture alone in its sample come its base tile,
squashed, and the tiles of its grid by rows, padded with black; one of several pictures is padded to a square
with the tower's mean colour; a frame of a clip is squashed. Time is that of PIL's bicubic filter.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from infinity_mm.image_tokens import Geometry, Visual

GRAY = (127, 127, 127)  # what a mean of 0.5 is as a colour


def tiles(
    pictures: Sequence[np.ndarray], visual: Visual, geometry: Geometry, fill: tuple[int, int, int] = GRAY
) -> np.ndarray:
    """The tiles of a picture, or of a clip's frames: uint8 [geometry.tiles(visual), 3, side, side].

    `pictures`: uint8 [height, width, 3] RGB, upright; one, or the frames. `fill` is what a picture among
    several is padded with: `fill_colour` of the tower's mean. Raises ValueError where they are not as
    `visual` says.
    """
    shape = (visual.height, visual.width, 3)
    if len(pictures) != visual.frames or any(picture.shape != shape for picture in pictures):
        found = ", ".join(map(str, sorted({picture.shape for picture in pictures}))) or "none"
        raise ValueError(f"{visual} does not fit {len(pictures)} decoded pictures of shape {found}")
    side = geometry.side
    images = [Image.fromarray(picture) for picture in pictures]
    if visual.kind == "several":
        images = [_square(image, fill) for image in images]
    cut = [_resize(image, side, side) for image in images]
    if visual.kind == "single" and geometry.pinpoints:
        cut += _grid(images[0], geometry)
    return np.stack([tile.transpose(2, 0, 1) for tile in cut])


def fill_colour(mean: Sequence[float]) -> tuple[int, int, int]:
    """A tower's mean as the colour pictures are padded with."""
    red, green, blue = (int(part * 255) for part in mean)
    return red, green, blue


def _resize(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _square(image: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
    """The picture in the middle of a square."""
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), fill)
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    return square


def _grid(image: Image.Image, geometry: Geometry) -> list[np.ndarray]:
    """The tiles of the picture's grid, by rows."""
    height, width = geometry.best(image.width, image.height)
    scale_width, scale_height = width / image.width, height / image.height
    if scale_width < scale_height:
        scaled = _resize(image, width, min(math.ceil(image.height * scale_width), height))
    else:
        scaled = _resize(image, min(math.ceil(image.width * scale_height), width), height)
    padded = np.zeros((height, width, 3), np.uint8)
    top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
    padded[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    side = geometry.side
    return [padded[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)]
