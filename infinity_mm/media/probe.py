"""What a medium is, from the first of its bytes: kind, true format, size, frames.

It runs on every medium at ingest, so images are read by hand from their headers (a few microseconds, nothing
copied, whatever their length); only video containers are opened with PyAV (about a millisecond).
"""

from dataclasses import dataclass
from struct import error as StructError

from infinity_mm.media.headers import PARSERS, HeaderError
from infinity_mm.media.sniff import IMAGE_FORMATS, VIDEO_FORMATS, sniff

EXTENSIONS: dict[str, frozenset[str]] = {
    "jpeg": frozenset(("jpg", "jpeg", "jpe", "jfif")),
    "png": frozenset(("png", "apng")),
    "gif": frozenset(("gif",)),
    "webp": frozenset(("webp",)),
    "bmp": frozenset(("bmp", "dib")),
    "tiff": frozenset(("tif", "tiff")),
    "ppm": frozenset(("ppm", "pgm", "pbm", "pnm", "pam")),
    "pfm": frozenset(("pfm",)),
    "avif": frozenset(("avif", "avifs")),
    "heic": frozenset(("heic", "heif", "hif")),
    "ico": frozenset(("ico",)),
    "cur": frozenset(("cur",)),
    "jp2": frozenset(("jp2", "j2k", "jpx", "jpf", "j2c", "jpc")),
    "jxl": frozenset(("jxl",)),
    "svg": frozenset(("svg",)),
    "psd": frozenset(("psd",)),
    "qoi": frozenset(("qoi",)),
    "dds": frozenset(("dds",)),
    "icns": frozenset(("icns",)),
    "exr": frozenset(("exr",)),
    "mp4": frozenset(("mp4", "m4v", "3gp", "3g2")),
    "mov": frozenset(("mov", "qt")),
    "webm": frozenset(("webm",)),
    "mkv": frozenset(("mkv", "mk3d")),
    "avi": frozenset(("avi",)),
    "mpeg": frozenset(("mpg", "mpeg", "m2v", "vob")),
    "mpegts": frozenset(("ts", "m2ts", "mts")),
    "flv": frozenset(("flv",)),
    "asf": frozenset(("wmv", "asf")),
    "ogg": frozenset(("ogv", "ogg")),
    "html": frozenset(("html", "htm")),
    "xml": frozenset(("xml",)),
    "json": frozenset(("json",)),
    "text": frozenset(("txt",)),
    "pdf": frozenset(("pdf",)),
    "zip": frozenset(("zip",)),
    "gzip": frozenset(("gz",)),
}
_KNOWN_EXTENSIONS = frozenset[str]().union(*EXTENSIONS.values())


@dataclass(frozen=True, slots=True)
class Probe:
    """What the header says; a field it does not tell is None, never 0."""

    kind: str  # "image", "video" or "unknown"
    format: str  # "jpeg", "mp4" …, or what it is instead: "html", "empty", "zero" (all NUL), "unknown" …
    width: int | None = None  # pixels, as stored: before any EXIF rotation
    height: int | None = None
    frames: int | None = None  # 1 for a still image; None where only decoding would tell
    fps: float | None = None  # frames a second, videos only
    error: str | None = None  # why the header could not be read


def probe(data: bytes | memoryview) -> Probe:
    """Reads what the header tells of one medium; never raises, whatever the bytes are."""
    view = memoryview(data)
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    form = sniff(view)
    parse = PARSERS.get(form)
    if parse is not None:
        try:
            width, height, frames = parse(view)
        except (IndexError, StructError):
            return Probe("image", form, error="truncated header")
        except HeaderError as error:
            return Probe("image", form, error=str(error))
        return Probe("image", form, width, height, frames)
    if form in VIDEO_FORMATS:
        return _probe_video(data, form)
    return Probe("image" if form in IMAGE_FORMATS else "unknown", form)


def _probe_video(data: bytes | memoryview, form: str) -> Probe:
    from infinity_mm.media.video import MediaError, read_header  # PyAV is heavy: only where a video is

    try:
        found = read_header(data, form)
    except MediaError as error:
        return Probe("video", form, error=str(error))
    return Probe("video", form, found.width, found.height, found.frames, found.fps)


def extension_matches(name: str, format: str) -> bool | None:
    """Whether a file name's extension is right for a true format; None without a known extension."""
    stem, dot, extension = name.rpartition("/")[2].rpartition(".")
    extension = extension.lower()
    if not dot or not stem or extension not in _KNOWN_EXTENSIONS:
        return None
    return extension in EXTENSIONS.get(format, ())
