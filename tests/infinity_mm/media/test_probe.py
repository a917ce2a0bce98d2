"""Headers: format, size and frames of every kind, and no exception for any bytes."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infinity_mm.media.probe import EXTENSIONS, Probe, extension_matches, probe

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 47, 3), dtype=np.uint8))


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def clip(form: str, codec: str, frames: int = 5) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            picture = np.full((48, 64, 3), 40 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return buffer.getvalue()


ANIMATED: dict[str, Any] = {"save_all": True, "append_images": [PICTURE.rotate(90), PICTURE.rotate(180)]}
IMAGES = {
    "jpeg": (encode(PICTURE, "JPEG"), 1),
    "jpeg progressive": (encode(PICTURE, "JPEG", progressive=True, comment=b"x" * 70), 1),
    "png": (encode(PICTURE, "PNG"), 1),
    "png animated": (encode(PICTURE, "PNG", **ANIMATED), 3),
    "gif": (encode(PICTURE, "GIF"), None),
    "webp lossy": (encode(PICTURE, "WEBP"), 1),
    "webp lossless": (encode(PICTURE, "WEBP", lossless=True), 1),
    "webp extended": (encode(PICTURE, "WEBP", exif=b"Exif\0\0x"), 1),
    "webp animated": (encode(PICTURE, "WEBP", **ANIMATED), 3),
    "bmp": (encode(PICTURE, "BMP"), 1),
    "tiff": (encode(PICTURE, "TIFF"), 1),
    "tiff big": (encode(PICTURE, "TIFF", big_tiff=True), 1),
    "tiff pages": (encode(PICTURE, "TIFF", **ANIMATED), 3),
    "ppm": (encode(PICTURE, "PPM"), 1),
    "ppm comment": (b"P3 # made\n# by hand\n47 30\n255\n" + b"0 " * (47 * 30 * 3), 1),
    "jp2": (encode(PICTURE, "JPEG2000"), 1),
    "jp2 codestream": (encode(PICTURE, "JPEG2000", no_jp2=True), 1),
    "avif": (encode(PICTURE, "AVIF"), 1),
}
OTHERS = {
    "empty": b"",
    "zero": bytes(5000),
    "html": b"\xef\xbb\xbf \n<!DOCTYPE HTML><html><body>404</body></html>",
    "xml": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "json": b'{"error": "gone"}',
    "text": "不存在 not found".encode(),
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
    "pdf": b"%PDF-1.7\n",
    "zip": b"PK\3\4\0\0",
    "gzip": b"\x1f\x8b\x08\0",
    "unknown": bytes(3000) + b"\1",
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_header_tells_format_size_and_frames(name: str) -> None:
    data, frames = IMAGES[name]
    assert probe(data) == Probe("image", name.split()[0], 47, 30, frames)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_medium_is_named(name: str) -> None:
    assert probe(OTHERS[name]) == Probe("unknown", name)


def test_svg_and_icons_are_images() -> None:
    assert probe(b'<?xml version="1.0"?>\n<svg width="3"/>') == Probe("image", "svg")
    icon = encode(PICTURE.resize((64, 64)), "ICO", sizes=[(16, 16), (48, 48)])
    assert probe(icon) == Probe("image", "ico", 48, 48, 1)


@pytest.mark.parametrize(
    ("form", "muxer", "codec"),
    [("mp4", "mp4", "mpeg4"), ("mov", "mov", "mpeg4"), ("avi", "avi", "mpeg4"), ("webm", "webm", "libvpx")],
)
def test_a_video_container_tells_size_and_rate(form: str, muxer: str, codec: str) -> None:
    found = probe(clip(muxer, codec))
    assert (found.kind, found.format, found.width, found.height) == ("video", form, 64, 48)
    assert (found.fps, found.error) == (10.0, None)
    assert found.frames == (None if form == "webm" else 5)


def test_a_matroska_that_is_no_webm() -> None:
    assert probe(clip("matroska", "mpeg4")).format == "mkv"


def test_the_size_is_as_stored_before_rotation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = probe(encode(PICTURE, "JPEG", exif=exif))
    assert (found.width, found.height) == (47, 30)


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "webp lossy", "bmp", "tiff", "ppm", "jp2"])
def test_a_header_cut_short_is_an_error_with_the_format(name: str) -> None:
    found = probe(IMAGES[name][0][: {"png": 17, "gif": 9, "ppm": 5}.get(name, 16)])
    assert found.kind == "image" and found.format == name.split()[0]
    assert found.width is None and found.error


def test_headers_that_would_take_forever_are_given_up() -> None:
    png = IMAGES["png"][0]
    many = png[:33] + struct.pack(">I4sI", 0, b"tEXt", 0) * 100_000
    assert probe(many).error == "too many chunks"
    jpeg = b"\xff\xd8" + b"\xff\xfe\0\2" * 100_000
    assert probe(jpeg).error == "too many markers"
    loop = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 5, 8)
    assert probe(loop).error == "the directories form a loop"


def test_an_offset_beyond_all_memory_is_a_header_cut_short() -> None:
    assert probe(b"II+\0\x08\0\0\0" + b"\xff" * 8).error == "truncated header"


def test_any_kind_of_buffer_is_read() -> None:
    data = IMAGES["jpeg"][0]
    assert probe(memoryview(data).cast("b")) == probe(memoryview(data)) == probe(data)


@settings(max_examples=300)
@given(st.binary(max_size=400), st.sampled_from([*IMAGES, "clip"]), st.integers(0, 120))
def test_no_bytes_raise(noise: bytes, name: str, keep: int) -> None:
    start = IMAGES[name][0] if name in IMAGES else b"\0\0\0\x18ftypisom"
    for data in (noise, start[:keep] + noise):
        found = probe(data)
        assert found.kind in ("image", "video", "unknown")
        assert found.error is None or found.width is None


@pytest.mark.parametrize(
    ("name", "form", "expected"),
    [
        ("a/b.JPG", "jpeg", True),
        ("a.jpeg", "png", False),
        ("a.png", "html", False),
        ("x.y/a", "png", None),
        ("a.xyz", "png", None),
        (".png", "png", None),
        ("a.tar.gz", "gzip", True),
    ],
)
def test_extensions(name: str, form: str, expected: bool | None) -> None:
    assert extension_matches(name, form) is expected


def test_no_extension_belongs_to_two_formats() -> None:
    every = [extension for group in EXTENSIONS.values() for extension in group]
    assert len(every) == len(set(every))


def test_real_files_agree_with_their_list(shared_data: Path) -> None:
    seen = 0
    for line in (shared_data / "MANIFEST.jsonl").read_text().splitlines():
        row = json.loads(line)
        found = probe((shared_data / row["path"]).read_bytes())
        if row["kind"] == "image":
            expected = (row["format"].lower(), row["width"], row["height"])
            assert (found.format, found.width, found.height) == expected, row["path"]
            assert found.error is None
        else:
            assert found.kind == {"video": "video", "undecodable": "unknown"}[row["kind"]], row["path"]
        seen += 1
    assert seen > 2000
