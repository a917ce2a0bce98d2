"""Videos, with PyAV: what the container says, whether every frame decodes, and the frames themselves.

The demuxer is named by the true format, so that a playlist that FFmpeg would follow to other files is never
opened. Decoding is strict (FFmpeg's `err_detect=explode`, no concealment) and on one thread: workers
are processes. Memory is one frame and the decoder's references; time is that of the decoder.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from infinity_mm.media.errors import MEDIA_ERRORS, MediaError
from infinity_mm.media.sniff import VIDEO_FORMATS, sniff
from infinity_mm.media.video_ends import announced_end

MAX_FRAMES = 100_000  # frames that a check decodes: an hour at 25 a second
MAX_FRAME_SIZE = 1 << 26  # pixels of one frame: 8K is half of it
MAX_TOTAL_PIXELS = 1 << 37  # pixels of all frames that a check decodes: 66,000 frames of 1080p
_DEMUXERS = {
    "mp4": "mov",
    "mov": "mov",
    "webm": "matroska",
    "mkv": "matroska",
    "avi": "avi",
    "mpeg": "mpeg",
    "mpegts": "mpegts",
    "flv": "flv",
    "asf": "asf",
    "ogg": "ogg",
}


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video is; a field that is not known is None, never 0."""

    width: int  # pixels, as stored: before any rotation the container asks for
    height: int
    frames: int | None  # as announced by the container, else as counted; None where neither is known
    fps: float | None  # frames a second, on average
    duration: float | None  # seconds
    frames_checked: int  # 0 where only the header was read
    complete: bool  # all frames were decoded: no cap was met


def read_header(data: bytes | memoryview, form: str) -> VideoInfo:
    """What the container says, without decoding; raises MediaError where it can't be read."""
    with _opened(data, form, {}) as (_, stream):
        return _info(stream, stream.frames or None, 0, False)


def check_video(
    data: bytes | memoryview,
    *,
    max_frames: int = MAX_FRAMES,
    max_pixels: int = MAX_FRAME_SIZE,
    max_total_pixels: int = MAX_TOTAL_PIXELS,
) -> VideoInfo:
    """Decodes every frame strictly, up to the caps; raises MediaError for the first thing that is wrong.

    `max_pixels` is of one frame and a refusal ("bomb"); the other two end the check, and `complete` says so.
    """
    return watch(data, 0, max_frames=max_frames, max_pixels=max_pixels, max_total_pixels=max_total_pixels)[0]


def watch(
    data: bytes | memoryview,
    stills: int,
    *,
    max_frames: int = MAX_FRAMES,
    max_pixels: int = MAX_FRAME_SIZE,
    max_total_pixels: int = MAX_TOTAL_PIXELS,
) -> tuple[VideoInfo, list[np.ndarray]]:
    """As `check_video`, and the luma of some frames, uint8 [height, width], as stored.

    They are those shown in the middle of each of `stills` equal parts of the time that the container says the
    video takes; none where it does not say or a cap was met.
    """
    view = _bytes_view(data)
    form = _video_format(view)
    end = announced_end(view, form)
    if end is not None and end > len(view):
        raise MediaError("truncated", f"{len(view)} of {end} bytes")
    # Without edit lists the demuxer yields every packet stored, whose number the container announces.
    options = {"ignore_editlist": "1"} if _DEMUXERS[form] == "mov" else {}
    with _opened(view, form, options) as (container, stream):
        _make_strict(stream, max_pixels)
        packets = frames = pixels = 0
        complete = True
        album = _Album(stills, _info(stream, None, 0, False))
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise MediaError("corrupt", f"packet {packets} is marked corrupt")
            packets += packet.size > 0
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise MediaError("corrupt", f"frame {frames} is damaged")
                album.add(frame)
                frames += 1
                pixels += frame.width * frame.height
            if frames >= max_frames or pixels >= max_total_pixels:
                complete = False
                break
        announced = stream.frames if _DEMUXERS[form] == "mov" else 0
        if complete and packets < announced:
            raise MediaError("truncated", f"{packets} of {announced} frames")
        if frames == 0:
            raise MediaError("corrupt", "no frame decodes")
        info = _info(stream, stream.frames or (frames if complete else None), frames, complete)
        return info, album.finished() if complete else []


class _Album:
    """Keeps the luma of the frame that is shown at each of some moments."""

    def __init__(self, stills: int, info: VideoInfo) -> None:
        length = info.duration or 0.0
        self.moments = [(2 * i + 1) / (2 * stills) * length for i in range(stills if length > 0 else 0)]
        self.fps = info.fps
        self.lumas: list[np.ndarray] = []
        self.shown: Any = None  # the frame before
        self.start: float | None = None
        self.number = 0

    def add(self, frame: Any) -> None:
        if len(self.lumas) == len(self.moments):
            return
        time = frame.time if frame.time is not None else self.number / (self.fps or 1)
        self.start = time if self.start is None else self.start
        while self.shown and len(self.lumas) < len(self.moments) and time - self.start > self._next():
            self.lumas.append(_luma(self.shown))
        self.shown, self.number = frame, self.number + 1

    def _next(self) -> float:
        return self.moments[len(self.lumas)]

    def finished(self) -> list[np.ndarray]:
        """All of them: at the moments after the last frame that one is still shown."""
        missing = len(self.moments) - len(self.lumas)
        if missing and self.shown:
            self.lumas += [_luma(self.shown)] * missing
        return self.lumas


def _luma(frame: Any) -> np.ndarray:
    luma: np.ndarray = frame.to_ndarray(format="gray")
    return luma


def iter_frames(
    data: bytes | memoryview, every: int = 1, *, max_pixels: int = MAX_FRAME_SIZE
) -> Iterator[np.ndarray]:
    """Every `every`-th frame from the first, uint8 [height, width, 3] RGB; raises MediaError where one fails.

    The frames come as shown (edit lists apply) but not rotated.
    """
    if every < 1:
        raise ValueError(f"every is {every}; it must be at least 1")
    for number, frame in _decoded(data, max_pixels):
        if number % every == 0:
            yield frame.to_ndarray(format="rgb24")


def frames_at(
    data: bytes | memoryview, numbers: Sequence[int], *, max_pixels: int = MAX_FRAME_SIZE
) -> Iterator[np.ndarray]:
    """The frames of given numbers, rising, as `iter_frames` gives them; fewer where the video ends before.
    Nothing after the last is decoded."""
    wanted = iter(numbers)
    number = next(wanted, None)
    for place, frame in _decoded(data, max_pixels) if number is not None else ():
        if place == number:
            yield frame.to_ndarray(format="rgb24")
            number = next(wanted, None)
            if number is None:
                return


def _decoded(data: bytes | memoryview, max_pixels: int) -> Iterator[tuple[int, Any]]:
    """Each frame with its number, from 0."""
    view = _bytes_view(data)
    with _opened(view, _video_format(view), {}) as (container, stream):
        _make_strict(stream, max_pixels)
        yield from enumerate(container.decode(stream))


class _Reader:
    """A file over bytes that are in memory already: BytesIO would copy a memoryview."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.at = view, 0

    def read(self, size: int) -> bytes:
        found = bytes(self.view[self.at : self.at + size])
        self.at += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, len(self.view))[whence])
        return self.at

    def tell(self) -> int:
        return self.at


@contextmanager
def _opened(data: bytes | memoryview, form: str, options: dict[str, str]) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; what FFmpeg raises within becomes MediaError."""
    reader = _Reader(_bytes_view(data))
    demuxer = "mpegvideo" if bytes(reader.view[:4]) == b"\0\0\1\xb3" else _DEMUXERS[form]
    try:
        with av.open(reader, format=demuxer, options=options, metadata_errors="replace") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise MediaError("no_video_stream", MEDIA_ERRORS["no_video_stream"])
            if stream.codec_context is None:
                raise MediaError("unsupported", "no decoder for its video stream")
            if not (stream.codec_context.width and stream.codec_context.height):
                raise MediaError("corrupt", "the stream does not say how large its frames are")
            yield container, stream
    except MediaError:
        raise
    except Exception as error:  # demuxers and decoders raise at will on damaged data
        raise _translate(error) from None


def _make_strict(stream: Any, max_pixels: int) -> None:
    context = stream.codec_context
    if context.width * context.height > max_pixels:
        raise MediaError("bomb", f"{context.width} by {context.height} pixels, more than {max_pixels}")
    context.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
    context.thread_count = 1


def _info(stream: Any, frames: int | None, checked: int, complete: bool) -> VideoInfo:
    rate, length = stream.average_rate, stream.duration
    if length is not None and stream.time_base is not None:
        seconds = float(length * stream.time_base)
    elif stream.container.duration is not None:
        seconds = stream.container.duration / av.time_base
    else:
        seconds = None
    context = stream.codec_context
    fps = float(rate) if rate else None
    return VideoInfo(context.width, context.height, frames, fps, seconds, checked, complete)


def _bytes_view(data: bytes | memoryview) -> memoryview:
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _video_format(view: memoryview) -> str:
    form = sniff(view)
    code = {"empty": "empty", "zero": "zeroed", "html": "html"}.get(form)
    if code is not None:
        raise MediaError(code, MEDIA_ERRORS[code])
    if form not in VIDEO_FORMATS:
        raise MediaError("not_a_video", f"the bytes are {form}")
    return form


def _translate(error: Exception) -> MediaError:
    message = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, MemoryError):
        return MediaError("bomb", "more memory than there is")
    if isinstance(error, EOFError):
        return MediaError("truncated", message)
    if isinstance(error, av.error.DecoderNotFoundError | av.error.PatchWelcomeError | NotImplementedError):
        return MediaError("unsupported", message)
    return MediaError("corrupt", message)
