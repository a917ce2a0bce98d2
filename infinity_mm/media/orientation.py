"""EXIF orientation: reading it, and turning pixels upright."""

from struct import Struct
from struct import error as StructError

import numpy as np

_TAG = 0x0112


def orientation(exif: bytes) -> int:
    """1 to 8 from an EXIF block (a TIFF header and its first directory); 1 where it says nothing sensible."""
    if exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    entry = Struct(order + "HHIHH")
    try:
        at = Struct(order + "I").unpack_from(exif, 4)[0]
        for i in range(Struct(order + "H").unpack_from(exif, at)[0]):
            tag, _, _, value, _ = entry.unpack_from(exif, at + 2 + 12 * i)
            if tag == _TAG:
                return value if 1 <= value <= 8 else 1
    except StructError:
        pass  # damaged EXIF harms no pixel
    return 1


def upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Pixels [height, width, 3] turned so that row 0 is the picture's top; contiguous."""
    if turned >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
