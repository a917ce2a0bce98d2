"""The data path: a plan's samples, the same for any ranks, workers and resumption; what is gone is told."""

import os
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inputs import picture, record, samples, saved
from psutil import Process
from talks import SAMPLES, chat, files, ingested, records

import trainers.data as data_module
from infinity_mm.executor import WorkerDied
from infinity_mm.image_tokens import Geometry
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import decode_image
from infinity_mm.media.video import iter_frames
from infinity_mm.withdraw import forget
from trainers.batch import Pack
from trainers.data import Loaded, Step, share
from trainers.llava.data import Data
from trainers.llava.documents import Encoding, Medium, frames_of, lay_out
from trainers.llava.lengths import measure_lengths
from trainers.llava.tiles import tiles
from trainers.mixture import Mixture
from trainers.plan import Batching, Plan

GEOMETRY = Geometry(16, 4, ((16, 16), (32, 16)), 3)
ENCODING = Encoding(chat=chat(), geometry=GEOMETRY, frames=3)
BATCHING: dict[str, Any] = {"batch": 8, "length": 250, "tiles": 12, "epochs": 2, "group": 2}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return ingested(tmp_path_factory.mktemp("data"), records(), files())


def data(manifest: Manifest, workers: int = 0, **more: Any) -> Data:
    mixture = Mixture([manifest], [1.0])
    plan = Plan(mixture, measure_lengths([manifest], ENCODING), Batching(**{**BATCHING, **more}))
    return Data(plan, ENCODING, workers=workers)


def same(one: Pack, two: Pack) -> bool:
    pairs = zip(one, two, strict=True)
    return all(torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in pairs)


def alike(ones: Sequence[Step], twos: Sequence[Step]) -> bool:
    return len(ones) == len(twos) and all(
        a[1:] == b[1:] and len(a.packs) == len(b.packs) and all(map(same, a.packs, b.packs))
        for a, b in zip(ones, twos, strict=True)
    )


def test_a_pack_is_its_samples_laid_out_and_tiled(raw: Manifest) -> None:
    by_id = {sample.sample_id: sample for sample in samples(raw)}
    library, seen = raw.library(), 0
    for step in data(raw, group=1).steps():
        ids = iter(step.sample_ids)
        for pack in step.packs:
            starts = pack.starts_D.tolist()
            visuals, seen_tiles, targets = [], [], []
            for start, end in pairwise(starts):
                sample = by_id[next(ids)]
                shown: list[list[np.ndarray]] = []
                for medium in sample.media:
                    read, info = library.read(medium), library.info(medium)
                    if info["kind"] == "video":
                        frames = list(iter_frames(read))
                        shown.append([frames[i] for i in frames_of(len(frames), 3)])
                        media = [Medium("video", 64, 64, len(frames))]
                    else:
                        shown.append([decode_image(read).pixels])
                        media = [Medium("image", p[0].shape[1], p[0].shape[0]) for p in shown]
                laid = lay_out(sample.turns, media if sample.media else [], ENCODING)
                assert pack.tokens_T[start:end].tolist() == laid.tokens.tolist()
                visuals += laid.visuals
                targets += laid.tokens[laid.supervised].tolist()
                seen_tiles += [
                    tiles(pictures, visual, GEOMETRY)
                    for pictures, visual in zip(shown, laid.visuals, strict=True)
                ]
                seen += 1
            assert pack.visuals == tuple(visuals)
            assert pack.targets_S.tolist() == targets
            assert np.array_equal(pack.tiles_N, np.concatenate([*seen_tiles, np.zeros((0, 3, 16, 16))]))
            assert not pack.sources_S.any()
        assert step.supervised == sum(len(pack.targets_S) for pack in step.packs)
        assert not step.skipped
    assert seen == 2 * SAMPLES


def test_workers_change_nothing(raw: Manifest) -> None:
    random = torch.get_rng_state()
    alone = list(data(raw).steps())
    others = data(raw, workers=2).steps()
    first = next(others)
    apart = [child.pid for child in Process().children() if os.getpgid(child.pid) == child.pid]
    assert len(apart) == 2  # a signal to the process group does not reach them
    assert alike(alone, [first, *others])
    assert torch.equal(random, torch.get_rng_state())  # or a resumed run would drop out otherwise


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_a_step(raw: Manifest, world: int) -> None:
    alone = list(data(raw).steps())
    ranks = [list(data(raw).steps(0, rank, world)) for rank in range(world)]
    for step, *parts in zip(alone, *ranks, strict=True):
        assert len({len(part.packs) for part in parts}) == 1
        dealt = [pack for turn in zip(*(part.packs for part in parts), strict=True) for pack in turn]
        assert all(map(same, step.packs, dealt))
        assert all(len(pack.tokens_T) == 0 and len(pack.tiles_N) == 0 for pack in dealt[len(step.packs) :])
        assert {part.consumed for part in parts} == {step.consumed}
        assert {part.sample_ids for part in parts} == {step.sample_ids}
        assert {part.supervised for part in parts} == {step.supervised}


@pytest.mark.parametrize("group", [1, 3])
def test_it_goes_on_from_any_cursor(raw: Manifest, group: int) -> None:
    whole = list(data(raw, group=group).steps())
    for number in (1, 4, len(whole) - 1, len(whole)):
        rest = list(data(raw, group=group).steps(whole[number - 1].consumed))
        assert alike(rest, whole[number:])
    with pytest.raises(ValueError, match="no step begins"):
        next(data(raw, group=group).steps(1))


def damaged(manifest: Manifest, name: bytes, spoil: Callable[[bytes], bytes]) -> None:
    """Spoil a medium's bytes in its store, by what they are."""
    for file in Path(manifest.store.path("bytes")).iterdir():
        os.chmod(file, 0o644)
        content = file.read_bytes()
        assert content.count(name) == 1
        file.write_bytes(content.replace(name, spoil(name)))


def test_a_picture_that_changed_is_told_and_nothing_takes_its_place(tmp_path: Path) -> None:
    told = [record(f"{n}.png", f"Question {n}?") for n in range(6)]
    pictures = {f"{n}.png": saved(picture(n, (20 + n, 20))) for n in range(6)}
    manifest = ingested(tmp_path, told, pictures)
    whole = list(data(manifest, epochs=1).steps())
    damaged(manifest, pictures["3.png"], lambda name: name[:-30] + bytes(30))
    rest = list(data(manifest, epochs=1).steps())
    (row,) = (row for step in rest for row in step.skipped)
    assert row == {
        "sample_id": manifest.ids(0)[3].tobytes().hex(), "source": "raw", "origin": row["origin"],
        "outcome": "failed", "reason": "changed_media", "detail": row["detail"],
    }  # fmt: skip
    for one, two in zip(whole, rest, strict=True):
        assert (one.consumed, one.sample_ids, one.supervised) == (
            two.consumed,
            two.sample_ids,
            two.supervised,
        )
        assert sum(len(p.starts_D) for p in one.packs) - 1 == sum(len(p.starts_D) for p in two.packs)


def test_a_picture_that_does_not_decode_is_told(tmp_path: Path) -> None:
    whole = saved(picture(0))
    pictures = {
        "good.png": whole,
        "bad.png": whole[: len(whole) // 2],
        "short.jpg": saved(picture(1), "JPEG")[:-50],
    }
    manifest = ingested(tmp_path, [record(name, name) for name in pictures], pictures)
    (step,) = data(manifest, epochs=1).steps()
    assert {row["reason"] for row in step.skipped} == {"truncated"}
    assert len(step.skipped) == 2
    assert sum(len(pack.starts_D) - 1 for pack in step.packs) == 1


def test_a_medium_withdrawn_is_told_once_by_the_first_rank(tmp_path: Path) -> None:
    manifest = ingested(tmp_path, records()[:9], files())
    forget(manifest.store, samples(manifest)[0].media[0].hex(), "a test")
    again = Manifest.open(manifest.store, "raw")
    ranks = [list(data(again, epochs=1).steps(0, rank, 2)) for rank in (0, 1)]
    rows = [[row["reason"] for step in steps for row in step.skipped] for steps in ranks]
    shown = [sample for sample in samples(manifest) if samples(manifest)[0].media[0] in sample.media]
    assert rows == [["withdrawn"] * len(shown), []]
    ids = {identity for step in ranks[0] for identity in step.sample_ids}
    assert ids == {s.sample_id for s in samples(manifest)} - {s.sample_id for s in shown}


def test_a_step_of_which_nothing_is_left_is_an_empty_pack(tmp_path: Path) -> None:
    manifest = ingested(tmp_path, records()[:2], files())
    forget(manifest.store, manifest.ids(0)[0].tobytes().hex(), "a test")
    again = Manifest.open(manifest.store, "raw")
    steps = list(data(again, batch=1, epochs=1, group=1).steps())
    assert sorted(len(step.packs[0].tokens_T) > 0 for step in steps) == [False, True]
    assert [len(step.packs) for step in steps] == [1, 1]


def test_packs_are_dealt_in_turn() -> None:
    places = tuple(np.array([[0, row, 0]]) for row in range(5))
    step = data_module.PlannedStep(0, places, np.zeros((0, 3), np.int64), 5, 0, 0, 0)
    assert share(step, 1, 2) == [((0, 1, 0),), ((0, 3, 0),), ()]
    assert share(step, 0, 8) == [((0, 0, 0),)]
    assert share(step._replace(packs=()), 0, 2) == [()]


class Deadly(data_module._Packs):
    """A worker that is killed by its seventh pack, which no one has asked for before the first was taken."""

    def __getitem__(self, unit: Any) -> Loaded:
        if getattr(self, "count", 0) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count = getattr(self, "count", 0) + 1
        return super().__getitem__(unit)


def test_a_worker_that_dies_is_an_error(raw: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "_Packs", Deadly)
    steps = data(raw, workers=1, batch=1, group=1).steps()
    assert len(next(steps).packs) == 1
    with pytest.raises(WorkerDied, match="a process that reads samples died"):
        list(steps)
