"""One digest for what is the same picture to the last bit, however it is stored.

Time is that of a full decode, and a tenth of it for the digest. Memory is one decoded frame and its copy.
"""

import hashlib

import numpy as np

from infinity_mm.media.decode import DEFAULT_MAX_PIXELS, decode_frames


def pixel_digest(data: bytes | memoryview, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> bytes:
    """The first 16 bytes of sha256 over the full-size upright pixels of every frame, with their shape.

    What means the same counts as the same: gray as RGB of three equal channels, an opaque alpha as none,
    whatever colour is fully transparent as black, 16 bits as 8 where they say no more. Not part of it are
    metadata, colour profiles and how long frames are shown. Of an animation beyond the decoder's caps it is
    the frames up to them. Raises MediaError for what `decode_image` refuses.
    """
    digest = hashlib.sha256()
    for pixels in decode_frames(data, max_pixels=max_pixels):
        plain = _canonical(pixels)
        height, width, channels = plain.shape
        digest.update(f"{height} {width} {channels} {8 * plain.itemsize}\n".encode())
        digest.update(np.ascontiguousarray(plain).data)
    return digest.digest()[:16]


def _canonical(pixels: np.ndarray) -> np.ndarray:
    """uint8 or little-endian uint16 [height, width, 3 or 4]."""
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8) if not (pixels % 257).any() else pixels.astype("<u2")
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3]
        if (alpha == 255).all():
            return pixels[:, :, :3]
        return np.where(alpha[:, :, None] == 0, np.uint8(0), pixels)
    return pixels
