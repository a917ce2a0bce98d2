"""Stored answers are found again whatever was asked together."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import Scripted, prompt_of

from infinity_mm.engines.base import Message, Picture, Reply, Request
from infinity_mm.store import Store
from pipelines.synthesize import replies
from pipelines.synthesize.replies import Replies, Spent


def request(byte: int | None, text: str = "What?") -> Request:
    """About a picture whose id begins with that byte, or about none."""
    shown = () if byte is None else (Picture(f"{byte:02x}" + "0" * 30, b""),)
    return Request(messages=(Message("user", (*shown, text)),))


def echo(asked: Request) -> str:
    ids = [part.id[:2] for message in asked.messages for part in message.parts if isinstance(part, Picture)]
    return f"{ids}: {prompt_of(asked)}"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(
        st.lists(st.lists(st.none() | st.integers(0, 255), max_size=6), max_size=4), min_size=1, max_size=4
    ),
    flush=st.integers(1, 4),
)
def test_nothing_is_asked_twice(
    runs: list[list[list[int | None]]], flush: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store.create(str(tmp_path_factory.mktemp("store")))
    engine = Scripted(echo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replies, "FLUSH", flush)
        patch.setattr(replies, "KEPT", 1)
        for run in runs:
            found = Replies(store, engine, Spent())
            for batch in run:
                requests = [request(byte) for byte in batch]
                told = [answer.text for answer in found.ask(requests) if isinstance(answer, Reply)]
                assert told == [echo(one) for one in requests]
    keys = [one.key for one in engine.asked]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {request(byte).key for run in runs for batch in run for byte in batch}


def test_what_is_asked_together_lies_together(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "store"))
    engine = Scripted(echo)
    Replies(store, engine, Spent()).ask([request(byte) for byte in (0x7A, 0x03, 0xF0, None)])
    (folder,) = (tmp_path / "store" / "replies").iterdir()
    assert sorted(one.name for one in folder.iterdir()) == ["03-f0", "none"]
    assert all(len(list(one.iterdir())) == 1 for one in folder.iterdir())
    (folder / "03-f0").rename(folder / "7a")  # as it was before, a folder for each byte
    again = Scripted(echo)
    Replies(store, again, Spent()).ask([request(0x7A), request(None)])
    assert not again.asked
