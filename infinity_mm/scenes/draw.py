"""From a scene to pixels, and from pixels to PNG, JPEG and MP4 bytes.

Pictures are RGB uint8 of side x side, drawn four times as large and averaged down, in about 1 ms.
"""

import io
from functools import lru_cache
from math import cos, pi, sin

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .world import COLOURS, Background, Scene, Thing, at_frame

FINE = 4  # linear oversampling
INK = (25, 25, 30)


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _ground(background: Background, side: int) -> Image.Image:
    """The background, side x side."""
    first, second = np.array(background.first, np.float64), np.array(background.second, np.float64)
    ramp = np.linspace(0.0, 1.0, side)
    if background.style == "plain":
        share = np.zeros((side, side))
    elif background.style == "gradient":
        share = np.repeat(ramp[:, None], side, axis=1)
    elif background.style == "side":
        share = np.repeat(ramp[None, :], side, axis=0)
    else:
        share = np.repeat((ramp[:, None] >= 0.5).astype(np.float64), side, axis=1)
    pixels_HWC = first + share[..., None] * (second - first)
    return Image.fromarray(pixels_HWC.round().astype(np.uint8))


def _outline(thing: Thing) -> list[tuple[float, float]]:
    """Corners of the object's polygon around (0, 0), in pixels; circles have none."""
    r = thing.radius
    if thing.shape == "square":
        return [(-0.9 * r, -0.9 * r), (0.9 * r, -0.9 * r), (0.9 * r, 0.9 * r), (-0.9 * r, 0.9 * r)]
    if thing.shape == "triangle":
        return [(0.0, -r), (r, 0.85 * r), (-r, 0.85 * r)]
    if thing.shape == "star":
        points = [(k, r if k % 2 == 0 else 0.42 * r) for k in range(10)]
        return [(d * sin(k * pi / 5), -d * cos(k * pi / 5)) for k, d in points]
    arm = 0.32 * r
    return [
        *[(-arm, -r), (arm, -r), (arm, -arm), (r, -arm), (r, arm), (arm, arm)],
        *[(arm, r), (-arm, r), (-arm, arm), (-r, arm), (-r, -arm), (-arm, -arm)],
    ]


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing) -> None:
    x, y, r = thing.x * FINE, thing.y * FINE, thing.radius * FINE
    colour = COLOURS[thing.colour]
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    else:
        pen.polygon([(x + dx * FINE, y + dy * FINE) for dx, dy in _outline(thing)], fill=colour)


def _draw_lettering(pen: ImageDraw.ImageDraw, scene: Scene) -> None:
    letters = scene.lettering
    assert letters is not None
    size = round(letters.height * FINE * 1.35)
    widest = 0.88 * scene.side * FINE
    wide = _font(size).getlength(letters.text)
    if wide > widest:
        size = int(size * widest / wide)
    pen.text(
        (letters.x * FINE, letters.y * FINE),
        letters.text,
        font=_font(size),
        fill=COLOURS[letters.colour],
        anchor="mm",
    )


def _draw_bars(pen: ImageDraw.ImageDraw, scene: Scene) -> None:
    """Bars on a base line, the letter below and the value above each."""
    unit = scene.side * FINE / 64
    base, full = 50 * unit, 37 * unit
    slot = 60 * unit / len(scene.bars)
    font = _font(round(12 * unit))
    pen.line((2 * unit, base, 62 * unit, base), fill=INK, width=round(unit))
    for i, bar in enumerate(scene.bars):
        middle = 2 * unit + (i + 0.5) * slot
        half = min(0.32 * slot, 7 * unit)
        top = base - full * bar.value / 9
        pen.rectangle((middle - half, top, middle + half, base), fill=COLOURS[bar.colour])
        pen.text((middle, 57 * unit), bar.label, font=font, fill=INK, anchor="mm")
        pen.text((middle, top - 5.5 * unit), str(bar.value), font=font, fill=INK, anchor="mm")


def picture(scene: Scene) -> Image.Image:
    """The scene as an RGB picture, side x side (a clip: its first frame)."""
    image = _ground(scene.background, scene.side).resize((scene.side * FINE,) * 2, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        _draw_thing(pen, thing)
    if scene.lettering:
        _draw_lettering(pen, scene)
    if scene.bars:
        _draw_bars(pen, scene)
    return image.reduce(FINE)


def frames(scene: Scene) -> list[Image.Image]:
    """All frames of a clip."""
    assert scene.motion is not None
    return [picture(at_frame(scene, k)) for k in range(scene.motion.frames)]


def encode(image: Image.Image, kind: str, quality: int = 88) -> bytes:
    """PNG, or JPEG with full-size colour planes: halved ones blur the colours of small objects."""
    buffer = io.BytesIO()
    if kind == "png":
        image.save(buffer, "PNG", optimize=False, compress_level=6)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode(data: bytes) -> Image.Image:
    """RGB picture of PNG or JPEG bytes."""
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _planes(image: Image.Image) -> np.ndarray:
    """YUV 4:2:0 planes (BT.601, limited range) of an RGB picture, uint8 of shape (3/2 height, width).

    Done here in exact arithmetic: the result of libswscale depends on the processor.
    """
    rgb = np.asarray(image, np.int64)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    y = (66 * r + 129 * g + 25 * b + 128 >> 8) + 16
    u = (-38 * r - 74 * g + 112 * b + 128 >> 8) + 128
    v = (112 * r - 94 * g - 18 * b + 128 >> 8) + 128
    height, width = y.shape
    halved = [(c.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3)) + 2) >> 2 for c in (u, v)]
    return np.concatenate([y.ravel(), *(c.ravel() for c in halved)]).astype(np.uint8).reshape(-1, width)


def encode_clip(scene: Scene) -> bytes:
    """The clip as MP4 (H.264, one thread, bit-exact container).

    Without x264's assembly: it reads memory it has not written, so that a clip may differ from run to run.
    """
    assert scene.motion is not None
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "libx264",
            rate=scene.motion.fps,
            options={"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "no-asm=1"},
        )
        stream.width = stream.height = scene.side
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for image in frames(scene):
            frame = av.VideoFrame.from_ndarray(_planes(image), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
