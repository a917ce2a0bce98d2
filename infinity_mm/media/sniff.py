"""The true format of some bytes, told from how they begin and never from a name.

Time and memory do not grow with the length of the data, but for bytes that begin with sixteen NULs.
"""

import re

_DECODED = ("jpeg", "png", "gif", "webp", "bmp", "tiff", "ppm", "ico", "jp2", "avif")
_NAMED_ONLY = ("pfm", "heic", "cur", "jxl", "svg", "psd", "qoi", "dds", "icns", "exr")
IMAGE_FORMATS = frozenset(_DECODED + _NAMED_ONLY)
VIDEO_FORMATS = frozenset(("mp4", "mov", "webm", "mkv", "avi", "mpeg", "mpegts", "flv", "asf", "ogg"))

_FIXED = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\1\0", "ico"),
    (b"\0\0\2\0", "cur"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"8BPS", "psd"),
    (b"qoif", "qoi"),
    (b"DDS ", "dds"),
    (b"icns", "icns"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"\0\0\1\xba", "mpeg"),
    (b"\0\0\1\xb3", "mpeg"),
    (b"FLV\1", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"OggS", "ogg"),
    (b"%PDF", "pdf"),
    (b"PK\3\4", "zip"),
    (b"PK\5\6", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x7fELF", "elf"),
    (b"ID3", "mp3"),
    (b"fLaC", "flac"),
    (b"%!PS", "postscript"),
    (b"version https://git-lfs", "git-lfs"),
)
_RIFF = {b"WEBP": "webp", b"AVI ": "avi", b"WAVE": "wav"}
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"pnot")
_NETPBM = re.compile(rb"P[1-7fF][ \t\r\n#]")
_NOT_NUL = re.compile(rb"[^\0]")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|script|title|meta|div|!--)", re.IGNORECASE)


def sniff(view: memoryview) -> str:
    """The lower-case name of the format; "unknown" where nothing fits.

    `view` is one-dimensional with format "B".
    """
    head = bytes(view[:32])
    for magic, name in _FIXED:
        if head.startswith(magic):
            return name
    if not head:
        return "empty"
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "unknown")
    if head[:2] == b"BM" and (len(head) < 18 or int.from_bytes(head[14:18], "little") in _BMP_HEADERS):
        return "bmp"
    if head[4:8] == b"ftyp":
        return _iso_brand(view)
    if head[4:8] in _QUICKTIME_ATOMS:
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "webm" if b"webm" in bytes(view[:64]) else "mkv"
    if _NETPBM.match(head):
        return "pfm" if head[1:2] in b"fF" else "ppm"
    if head[0] == 0x47 and len(view) > 376 and view[188] == 0x47 and view[376] == 0x47:
        return "mpegts"
    if not head.strip(b"\0"):
        return "unknown" if _NOT_NUL.search(view) else "zero"
    return _text(bytes(view[:1024]))


def _iso_brand(view: memoryview) -> str:
    """Which of the formats that share the ISO base media container this is, from its brands."""
    size = int.from_bytes(view[:4], "big")
    brands = bytes(view[8 : min(max(size, 12), 256)])
    major = brands[:4]
    if major == b"qt  ":
        return "mov"
    listed = [brands[i : i + 4] for i in range(0, len(brands) - 3, 4)]
    if major in _AVIF_BRANDS or (major in _HEIC_BRANDS and any(b in _AVIF_BRANDS for b in listed)):
        return "avif"
    if major in _HEIC_BRANDS:
        return "heic"
    return "mp4"


def _text(head: bytes) -> str:
    """html, svg, xml, json or text for readable UTF-8, else unknown."""
    body = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _CONTROL.search(head):
        return "unknown"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character cut at the end of the look is no fault
            return "unknown"
    lower = body.lower()
    if lower.startswith(b"<svg") or (lower.startswith((b"<?xml", b"<!")) and b"<svg" in lower):
        return "svg"
    if lower.startswith(b"<?xml"):
        return "html" if b"<html" in lower else "xml"
    if _HTML.match(lower):
        return "html"
    if lower.startswith(b"<"):
        return "xml"
    return "json" if body[:1] in (b"{", b"[") else "text"
