"""Clips made here: frames decode strictly, cuts and damage are found, caps are reported."""

import contextlib
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity_mm.media.video import MediaError, VideoInfo, check_video, frames_at, iter_frames, watch

LEVELS = (0, 50, 100, 150, 200, 250)


def clip(muxer: str, codec: str) -> bytes:
    """Six grey frames of 64 by 48 at 10 a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rng = np.random.default_rng(0)
        for level in LEVELS:
            picture = (level + rng.integers(0, 5, (48, 64, 3))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return buffer.getvalue()


def sound_only() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


CLIPS = {
    "mp4": clip("mp4", "mpeg4"),
    "mov": clip("mov", "mpeg4"),
    "avi": clip("avi", "mpeg4"),
    "webm": clip("webm", "libvpx"),
    "mkv": clip("matroska", "mpeg4"),
}


def code_of(data: bytes, **options: Any) -> str | None:
    try:
        check_video(data, **options)
    except MediaError as error:
        return error.code
    return None


@pytest.mark.parametrize("form", CLIPS)
def test_a_good_clip(form: str) -> None:
    found = check_video(memoryview(CLIPS[form]))
    assert (found.width, found.height, found.frames, found.fps) == (64, 48, 6, 10.0)
    assert found.duration == pytest.approx(0.6, abs=0.11)
    assert (found.frames_checked, found.complete) == (6, True)


@pytest.mark.parametrize("form", CLIPS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_a_cut_clip_is_truncated(form: str, share: float) -> None:
    assert code_of(CLIPS[form][: int(len(CLIPS[form]) * share)]) == "truncated"


def test_what_is_no_video() -> None:
    assert code_of(b"") == "empty"
    assert code_of(bytes(999)) == "zeroed"
    assert code_of(b"<html>gone</html>") == "html"
    assert code_of(b"GIF89a\1\0\1\0\0\0\0;") == "not_a_video"
    assert code_of(sound_only()) == "no_video_stream"
    assert code_of(b"#EXTM3U\n#EXTINF:1,\nother.mp4\n") == "not_a_video"


def test_damage_in_the_frames_is_found() -> None:
    data = bytearray(CLIPS["mp4"])
    start = data.index(b"mdat") + 60
    data[start : start + 400] = bytes(b ^ 0x55 for b in data[start : start + 400])
    assert code_of(bytes(data)) == "corrupt"


def test_caps() -> None:
    found = check_video(CLIPS["webm"], max_frames=2)
    assert (found.frames, found.frames_checked, found.complete) == (None, 2, False)
    assert check_video(CLIPS["mp4"], max_total_pixels=1).complete is False
    assert code_of(CLIPS["mp4"], max_pixels=64 * 48 - 1) == "bomb"


def test_every_second_frame() -> None:
    frames = list(iter_frames(CLIPS["mp4"], 2))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert [float(frame.mean()) for frame in frames] == pytest.approx([2, 102, 202], abs=6)
    with pytest.raises(ValueError, match="every is 0"):
        next(iter_frames(CLIPS["mp4"], 0))


def test_iterating_a_cut_clip_raises_one_kind_of_error() -> None:
    with pytest.raises(MediaError):
        list(iter_frames(CLIPS["mp4"][:200]))


@settings(max_examples=100)
@given(st.sampled_from(sorted(CLIPS)), st.data())
def test_no_mutated_clip_raises_anything_else(form: str, draw: st.DataObject) -> None:
    data = bytearray(CLIPS[form])
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=8)):
        data[at] ^= draw.draw(st.integers(1, 255))
    with contextlib.suppress(MediaError):
        assert isinstance(check_video(bytes(data), max_frames=20), VideoInfo)


def test_real_clips_pass(shared_data: Path) -> None:
    found = sorted(path for folder in shared_data.glob("*/videos") for path in folder.iterdir())
    assert len(found) == 4
    for path in found:
        info = check_video(path.read_bytes())
        assert info.complete and info.frames == info.frames_checked, path.name


@pytest.mark.parametrize("form", CLIPS)
def test_stills_are_frames_amid_equal_parts(form: str) -> None:
    info, stills = watch(CLIPS[form], 4)
    assert info == check_video(CLIPS[form])
    assert [still.shape for still in stills] == [(48, 64)] * 4
    for still, shown in zip(stills, (0, 2, 3, 5), strict=True):  # at 0.075, 0.225 … of 0.6 seconds
        assert abs(float(still.mean()) - LEVELS[shown]) < 22
    assert watch(CLIPS[form], 0)[1] == [] == watch(CLIPS[form], 3, max_frames=2)[1]


def test_more_stills_than_frames_repeat() -> None:
    _, stills = watch(CLIPS["mp4"], 12)
    assert len(stills) == 12
    assert [round(float(still.mean()) / 50) for still in stills[::2]] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("form", CLIPS)
def test_frames_come_by_their_numbers(form: str) -> None:
    frames = list(iter_frames(CLIPS[form]))
    for wanted in ([], [0], [1, 4], [0, 1, 2, 3, 4, 5], [4, 99]):
        found = list(frames_at(CLIPS[form], wanted))
        assert len(found) == len([n for n in wanted if n < len(frames)])
        assert all((one == frames[n]).all() for one, n in zip(found, wanted, strict=False))
