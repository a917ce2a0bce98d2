"""Mutates pictures and clips that it makes itself, and demands that nothing but MediaError comes of it.

    python benchmarks/fuzz_media.py --count 20000 --seed 0

It counts the verdicts, the slowest item and the rate, then the share of damaged files that strict decoding
refuses: flipped bytes and cuts in the image data of JPEG and PNG. Each item is a pure function of the seed
and its number. Items run in a child process, so that a crash or a hang of a decoder is a finding with a
number. libtiff writes its complaints to stderr; they are no faults.
"""

import argparse
import io
import multiprocessing
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

import av
import numpy as np
from PIL import Image

from infinity_mm.media.decode import MediaError, check_image, decode_image
from infinity_mm.media.probe import probe
from infinity_mm.media.video import check_video

MAX_PIXELS = 1 << 24  # so that a header edited to a great size is cheap to refuse
ITEM_SECONDS = 20
CHILD_ITEMS = 2000


def corpus(seed: int) -> dict[str, bytes]:
    """Small files of every kind that is decoded here, by name."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    picture = noise.resize((96, 72), Image.Resampling.BICUBIC)
    frames = [picture.rotate(90 * i) for i in range(1, 4)]
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    deep = Image.fromarray(rng.integers(0, 65536, (72, 96), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    animated: dict[str, Any] = {"save_all": True, "append_images": frames, "duration": 40}
    wanted: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (picture, "JPEG", {"exif": exif}),
        "jpeg_progressive": (picture, "JPEG", {"progressive": True}),
        "jpeg_restart": (picture, "JPEG", {"restart_marker_rows": 1}),
        "jpeg_cmyk": (picture.convert("CMYK"), "JPEG", {}),
        "jpeg_gray": (picture.convert("L"), "JPEG", {}),
        "png_1": (picture.convert("1"), "PNG", {}),
        "png_8": (picture, "PNG", {"icc_profile": bytes(600)}),
        "png_16": (deep, "PNG", {}),
        "png_palette": (picture.quantize(32), "PNG", {"transparency": 3}),
        "png_alpha": (alpha, "PNG", {}),
        "apng": (picture, "PNG", animated),
        "gif": (picture, "GIF", animated),
        "webp": (picture, "WEBP", {"quality": 70}),
        "webp_lossless": (alpha, "WEBP", {"lossless": True}),
        "webp_animated": (picture, "WEBP", animated),
        "bmp": (picture, "BMP", {}),
        "ppm": (picture, "PPM", {}),
        "ico": (alpha.resize((32, 32)), "ICO", {"sizes": [(32, 32)]}),
        "jp2": (picture, "JPEG2000", {}),
        "avif": (picture, "AVIF", {}),
    }
    for compression in (None, "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"):
        wanted[f"tiff_{compression}"] = (picture, "TIFF", {"compression": compression, "save_all": True})
    made = {}
    for name, (image, form, options) in wanted.items():
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        made[name] = buffer.getvalue()
    for form, codec in (("mp4", "mpeg4"), ("mp4", "libx264"), ("webm", "libvpx"), ("avi", "mjpeg")):
        made[f"{form}_{codec}"] = _clip(form, codec, [picture, *frames])
    return made


def _clip(form: str, codec: str, pictures: list[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for picture in pictures * 2:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return buffer.getvalue()


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three of: flipped bytes, a cut, an insertion, a repeat, an edited header, a NUL run."""
    found = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, size = int(rng.integers(len(found) + 1)), int(rng.integers(1, 64))
        match rng.integers(6):
            case 0:
                for place in rng.integers(0, max(len(found), 1), rng.integers(1, 20)):
                    if found:
                        found[place] ^= int(rng.integers(1, 256))
            case 1:
                del found[at:]
            case 2:
                found[at:at] = rng.bytes(size)
            case 3:
                found[at:at] = found[at : at + size * 8]
            case 4:
                at = int(rng.integers(min(len(found), 64) + 1))
                edits = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xff\xff", rng.bytes(4))
                found[at : at + 4] = edits[size % 4]
            case 5:
                found[at : at + size * 8] = bytes(len(found[at : at + size * 8]))
    return bytes(found)


def verdict(data: bytes) -> str:
    """What probe, decode and check say of one item; raises where they break their promises."""
    found = probe(data)
    if found.kind == "video":
        try:
            check_video(data, max_pixels=MAX_PIXELS, max_frames=100)
        except MediaError as error:
            return f"video {error.code}"
        return "video good"
    quick = check_image(data, max_pixels=MAX_PIXELS)
    try:
        decoded = decode_image(data, max_pixels=MAX_PIXELS)
    except MediaError as error:
        assert quick is not None and quick.code == error.code, f"decode says {error}, check {quick}"
        return f"image {error.code}"
    assert quick is None, f"decode passes what check calls {quick}"
    assert decoded.pixels.dtype == np.uint8 and decoded.pixels.shape[2] == 3
    return "image good"


def _run(seed: int, start: int, stop: int, pipe: Connection) -> None:
    files = corpus(seed)
    names = sorted(files)
    for number in range(start, stop):
        rng = np.random.default_rng((seed, number))
        name = names[number % len(names)]
        try:
            result = verdict(mutate(files[name], rng))
        except Exception as error:  # this is what the fuzzer looks for
            result = f"ESCAPED {name} {type(error).__name__}: {error}"
        pipe.send((number, result))


def fuzz(count: int, seed: int) -> tuple[Counter[str], list[str], float]:
    """Verdict counts, what must not happen (with its item number), and the slowest item in seconds."""
    verdicts: Counter[str] = Counter()
    faults: list[str] = []
    slowest, number = 0.0, 0
    context = multiprocessing.get_context("spawn")
    while number < count:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_run, args=(seed, number, min(number + CHILD_ITEMS, count), theirs))
        child.start()
        theirs.close()
        stop, started = min(number + CHILD_ITEMS, count), None
        while number < stop:
            try:
                if not ours.poll(ITEM_SECONDS + (60 if started is None else 0)):
                    faults.append(f"item {number}: longer than {ITEM_SECONDS} s")
                    child.kill()
                    break
                number, result = ours.recv()
            except EOFError:
                child.join()
                faults.append(f"item {number}: the process died with {child.exitcode}")
                break
            now = time.monotonic()
            if started is not None:
                slowest = max(slowest, now - started)
            started = now
            if result.startswith("ESCAPED"):
                faults.append(f"item {number}: {result}")
                verdicts["escaped"] += 1
            else:
                verdicts[result] += 1
            number += 1
        else:
            child.join()
            continue
        child.join()
        number += 1  # past the item that broke it
    return verdicts, faults, slowest


def detection(seed: int, tries: int) -> list[str]:
    """One line a kind of file and damage: the share of damaged files that are refused."""
    lines = []
    rng = np.random.default_rng(seed)
    pixels = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((320, 240))
    options: dict[str, tuple[str, dict[str, Any], bytes]] = {
        "jpeg baseline": ("JPEG", {}, b"\xff\xda"),
        "jpeg optimised": ("JPEG", {"optimize": True}, b"\xff\xda"),
        "jpeg progressive": ("JPEG", {"progressive": True}, b"\xff\xda"),
        "jpeg restart markers": ("JPEG", {"restart_marker_rows": 1}, b"\xff\xda"),
        "png": ("PNG", {}, b"IDAT"),
    }
    for name, (form, extra, mark) in options.items():
        buffer = io.BytesIO()
        pixels.save(buffer, form, **extra)
        data = buffer.getvalue()
        first = data.index(mark) + 14
        shares = []
        for flips in (1, 5, 20):
            refused = 0
            for _ in range(tries):
                damaged = bytearray(data)
                for at in rng.integers(first, len(data) - 16, flips):
                    damaged[at] ^= int(rng.integers(1, 256))
                refused += check_image(bytes(damaged)) is not None
            shares.append(f"{flips} bytes flipped {refused / tries:.1%}")
        cuts = rng.integers(first, len(data) - 1, tries)
        refused = sum(check_image(data[:at]) is not None for at in cuts)
        lines.append(f"{name:22}" + ", ".join([*shares, f"cut {refused / tries:.1%}"]))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="mutated items")
    parser.add_argument("--seed", type=int, default=0, help="names the items")
    parser.add_argument("--tries", type=int, default=500, help="damaged files for each share refused")
    options = parser.parse_args()
    for name, data in corpus(options.seed).items():
        if not verdict(data).endswith("good"):
            print(f"{name}, unharmed, is {verdict(data)}")
            return 1
    started = time.monotonic()
    verdicts, faults, slowest = fuzz(options.count, options.seed)
    seconds = time.monotonic() - started
    for name, number in sorted(verdicts.items()):
        print(f"{number:8} {name}")
    print(f"{options.count / seconds:.0f} items/s, slowest {slowest:.2f} s, faults {len(faults)}")
    print("\n".join([*faults, "refused, of files damaged in their image data:"]))
    print("\n".join(detection(options.seed, options.tries)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
