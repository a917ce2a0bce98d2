"""A server's engine against a real server that misbehaves on purpose."""

import io
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_server import Server, serving
from PIL import Image

from infinity_mm.engines.base import (
    Answer,
    EngineError,
    Failure,
    Message,
    Picture,
    Reply,
    Request,
    open_engine,
)
from infinity_mm.engines.openai import OpenAIEngine, content, open_openai

SECRET = "sk-very-secret-0123456789"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving() as toy:
        yield toy


@pytest.fixture
def engine(server: Server) -> Iterator[OpenAIEngine]:
    with opened(server) as found:
        yield found


class opened:
    """An engine that hardly waits, closed at the end of the block."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.engine = open_openai(f"toy@{server.url}", **{"wait": 0.001, "retries": 2, **options})

    def __enter__(self) -> OpenAIEngine:
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.close()


def ask(script: str, **options: Any) -> Request:
    return Request(messages=(Message("user", (script,)),), **options)


def one(engine: OpenAIEngine, request: Request) -> Answer:
    ((place, answer),) = engine.ask([request])
    assert place == 0
    return answer


def picture(form: str = "png") -> Picture:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(file, form)
    return Picture("0" * 32, file.getvalue())


@pytest.mark.parametrize(
    "trouble",
    ["wait:0", "500", "502", "503", "504", "408", "reset", "cut", "broken", "html", "none"],
)
def test_what_can_pass_is_asked_again(engine: OpenAIEngine, server: Server, trouble: str) -> None:
    text = f"{trouble},hello x"
    assert one(engine, ask(text)) == Reply("hello", "stop", 7, 3)
    assert server.asked[text] == 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("400", "prompt_too_long"),
        ("413", "refused"),
        ("picture", "refused"),
        ("filtered", "unfinished"),
        ("refusal", "refused"),
        ("empty", "empty_reply"),
        ("empty:null", "empty_reply"),
    ],
)
def test_what_is_a_requests_own_is_not_asked_again(
    engine: OpenAIEngine, server: Server, script: str, reason: str
) -> None:
    answers = dict(engine.ask([ask("before"), ask(script), ask("after")]))
    assert [a.text for a in (answers[0], answers[2]) if isinstance(a, Reply)] == ["before", "after"]
    assert isinstance(answers[1], Failure) and answers[1].reason == reason
    assert server.asked[script] == 1


@pytest.mark.parametrize("script", ["500", "reset", "cut", "broken"])
def test_a_request_that_a_server_always_fails_on_is_its_own_failure(
    engine: OpenAIEngine, server: Server, script: str
) -> None:
    answer = one(engine, ask(script))
    assert isinstance(answer, Failure) and answer.reason == "server_error"
    assert server.asked[script] == 3  # and once more is asked whether the server answers others
    assert server.asked["Hello"] == 1


def test_a_server_that_hangs_is_left(server: Server) -> None:
    with opened(server, timeout=1.0, retries=1) as engine:
        assert one(engine, ask("hang,hello")) == Reply("hello", "stop", 7, 3)
        answers = dict(engine.ask([ask("hang"), ask("fine")]))
    assert isinstance(answers[0], Failure) and answers[0].reason == "no_time"
    assert isinstance(answers[1], Reply)
    assert [server.asked[text] for text in ("hang,hello", "hang", "fine")] == [2, 2, 1]


@pytest.mark.parametrize("script", ["401", "403", "404", "301", "quota", "other", "wait:9999"])
def test_what_cannot_pass_stops_at_once(engine: OpenAIEngine, server: Server, script: str) -> None:
    with pytest.raises(EngineError) as raised:
        one(engine, ask(script))
    assert server.asked[script] == 1
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("script", ["503", "wait:0"])
def test_a_server_that_stays_busy_stops_the_job(engine: OpenAIEngine, server: Server, script: str) -> None:
    with pytest.raises(EngineError, match="go on when the server is there again"):
        one(engine, ask(script))
    assert server.asked[script] == 3


def test_a_server_that_is_gone_stops_the_job_and_answers_stay(server: Server) -> None:
    with opened(server, concurrency=1) as engine:
        answers = []
        with pytest.raises(EngineError):
            for answer in engine.ask([ask("hello"), ask("403"), ask("never")]):
                answers.append(answer)
        assert answers == [(0, Reply("hello", "stop", 7, 3))]
        assert server.asked["never"] == 0


def test_a_server_that_comes_back_is_asked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as first:
        engine = open_openai(f"toy@{first.url}", wait=0.001, retries=1)
        assert one(engine, ask("hello")) == Reply("hello", "stop", 7, 3)
        port = int(first.url.rpartition(":")[2].removesuffix("/v1"))
        assert first.keys == {None}
    with pytest.raises(EngineError, match="ConnectError"):
        one(engine, ask("hello"))
    with serving(port):
        assert one(engine, ask("hello")) == Reply("hello", "stop", 7, 3)
    engine.close()


def test_another_model_under_the_same_name_is_noticed(server: Server) -> None:
    with opened(server) as engine:
        with pytest.raises(EngineError, match="/models/other"):
            one(engine, ask("switch,hello"))
        assert server.asked["switch,hello"] == 1
    server.card = {"id": "toy", "root": "/models/toy"}
    with opened(server) as engine:
        assert isinstance(one(engine, ask("hello")), Reply)
        server.card = {"id": "toy", "root": "/models/tiny"}
        with pytest.raises(EngineError, match="another model"):
            one(engine, ask("hello"))
        server.card = {"id": "toys"}
        with pytest.raises(EngineError, match="has no model 'toy'"):
            one(engine, ask("hello"))


def test_a_reply_over_a_new_connection_counts_only_once_the_model_is_asked_for(server: Server) -> None:
    with opened(server, concurrency=1) as engine:
        found = []
        with pytest.raises(EngineError, match="another model"):
            for answer in engine.ask([ask("leave"), ask("hello")]):
                found.append(answer)
        assert found == [(0, Reply("bye", "stop", 7, 3))]


def test_a_pause_is_as_long_as_the_server_asks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    paused: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float, *rest: Any) -> None:
        paused.append(seconds)
        await sleep(0)

    with opened(server, wait=1.0, retries=5) as engine:
        monkeypatch.setattr(asyncio, "sleep", noted)
        assert isinstance(one(engine, ask("500,500,wait:30,500,hello")), Reply)
    assert [1 <= paused[0] <= 1.5, 2 <= paused[1] <= 3, paused[2] == 30, 8 <= paused[3] <= 12] == [True] * 4


def test_no_more_are_under_way_than_allowed(server: Server) -> None:
    with opened(server, concurrency=3) as engine:
        answers = dict(engine.ask([ask(f"slow {n}") for n in range(9)]))
    assert sorted(answers) == list(range(9))
    assert server.most == 3


def test_pictures_go_as_they_are_stored(engine: OpenAIEngine, server: Server) -> None:
    turn = Message("user", (picture(), "hel", "lo", picture("jpeg"), "say:fine"))
    assert one(engine, Request(messages=(turn,))) == Reply("fine", "stop", 7, 3)
    sent = server.bodies["say:fine"]["messages"][0]["content"]
    assert [part["type"] for part in sent] == ["image_url", "text", "image_url", "text"]
    assert sent[1]["text"] == "hello"
    urls = [part["image_url"]["url"] for part in sent if part["type"] == "image_url"]
    assert [url.partition(";")[0] for url in urls] == ["data:image/png", "data:image/jpeg"]
    assert content(Message("user", ("one ", "text"))) == "one text"


def test_a_damaged_picture_is_not_sent(engine: OpenAIEngine, server: Server) -> None:
    bad = Picture("1" * 32, picture().data[:-20])
    answers = dict(engine.ask([Request(messages=(Message("user", (bad, "hello")),)), ask("fine")]))
    assert isinstance(answers[0], Failure) and answers[0].reason == "bad_picture"
    assert isinstance(answers[1], Reply)
    assert server.asked["hello"] == 0


@pytest.mark.parametrize(
    ("owner", "version", "sent"),
    [
        ("vllm", "0.32.0", {"structured_outputs": {"choice": ["yes", "no."]}}),
        ("vllm", "0.10.2", {"guided_choice": ["yes", "no."]}),
        ("sglang", "", {"regex": r"(yes|no\.)"}),
        ("someone", "", {}),
    ],
)
def test_choices_are_sent_as_the_server_knows_them(
    server: Server, owner: str, version: str, sent: dict[str, Any]
) -> None:
    server.card["owned_by"], server.version = owner, version
    choices = ("yes", "no.")
    with opened(server) as engine:
        assert one(engine, ask("yes", choices=choices)) == Reply("yes", "stop", 7, 3)
        assert one(engine, ask("maybe", choices=choices)) == Failure("not_a_choice", "'maybe'")
    body = server.bodies["yes"]
    names = ("structured_outputs", "guided_choice", "regex")
    assert {name: body[name] for name in names if name in body} == sent
    assert ("repetition_penalty" in body) == (owner != "someone")


def test_a_schema_is_sent_and_checked(engine: OpenAIEngine, server: Server) -> None:
    assert one(engine, ask('say:{"n":3}', schema=SCHEMA)) == Reply('{"n":3}', "stop", 7, 3)
    sent = server.bodies['say:{"n":3}']["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["schema"] == SCHEMA
    for reply in ('{"n":', '{"n":"3"}', "{}", '{"n":NaN}'):
        answer = one(engine, ask(f"say:{reply}", schema=SCHEMA))
        assert isinstance(answer, Failure) and answer.reason == "not_json", reply


def test_settings_and_log_probabilities(engine: OpenAIEngine, server: Server) -> None:
    answer = one(
        engine, ask("logprobs", top_logprobs=2, temperature=0.5, top_p=0.9, seed=4, max_tokens=5, stop=("x",))
    )
    assert isinstance(answer, Reply)
    assert [(t.text, t.logprob, t.top) for t in answer.tokens] == [("yes", -0.1, (("yes", -0.1),))]
    body = server.bodies["logprobs"]
    assert [body[n] for n in ("temperature", "top_p", "seed", "max_tokens", "stop")] == [
        0.5,
        0.9,
        4,
        5,
        ["x"],
    ]


def test_the_key_reaches_the_server_and_nothing_else(
    engine: OpenAIEngine, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        said = [repr(engine), repr(engine.identity)]
        for script in ("500", "413", "418", "401"):
            try:
                said.append(repr(one(engine, ask(script))))
            except EngineError as error:
                said += [str(error), repr(error.__cause__), repr(error.__context__)]
    assert server.keys == {f"Bearer {SECRET}"}
    assert SECRET not in "".join(said) + caplog.text


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("toy", "MODEL@URL"),
        ("toy@ftp://host", "MODEL@URL"),
        ("@http://host", "MODEL@URL"),
        ("toy@http://me:sk-hidden@host/v1", "more than a place"),
        ("toy@http://host/v1?key=sk-hidden", "more than a place"),
    ],
)
def test_what_names_no_server_is_refused(rest: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        open_engine(f"openai:{rest}")
    assert "sk-hidden" not in str(raised.value)


def test_opening_tells_what_is_wrong(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="has no model 'tiy'; it has toy"):
        open_openai(f"tiy@{server.url}")
    with pytest.raises(EngineError, match="check the model's name and the URL"):
        open_openai(f"toy@{server.url}/elsewhere")
    with pytest.raises(EngineError, match="is the server there"):
        open_openai("toy@http://127.0.0.1:9/v1")
    with pytest.raises(ValueError, match="timeout"):
        open_openai(f"toy@{server.url}", timeout=0)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two\nlines")
    with pytest.raises(ValueError, match="characters") as raised:
        open_openai(f"toy@{server.url}")
    assert "sk-two" not in str(raised.value)


def test_identity_is_what_the_server_tells(server: Server) -> None:
    with opened(server) as first, opened(server) as second:
        assert first.identity == second.identity
        assert first.identity.libraries == "vllm 0.32.0"
    server.card["root"] = "/models/other"
    with opened(server) as third:
        assert third.identity.key != first.identity.key


BEHAVIOURS = ("500", "reset", "cut", "broken", "none", "400", "filtered", "empty", "hello")


def test_each_request_has_one_answer(server: Server) -> None:
    with opened(server) as engine:
        count = iter(range(1 << 30))

        @settings(max_examples=30)
        @given(
            scripts=st.lists(st.lists(st.sampled_from(BEHAVIOURS), max_size=4), max_size=8),
            concurrency=st.integers(1, 5),
        )
        def holds(scripts: list[list[str]], concurrency: int) -> None:
            engine.concurrency = concurrency
            whole = [[*script, f"end{n}"] for n, script in enumerate(scripts)]
            answers = list(engine.ask([ask(f"{','.join(script)} {next(count)}") for script in whole]))
            assert sorted(place for place, _ in answers) == list(range(len(scripts)))
            for place, answer in answers:
                said = answer.text if isinstance(answer, Reply) else answer.reason
                assert said == first_that_stands(whole[place]), (whole[place], answer)

        holds()


def first_that_stands(script: list[str]) -> str:
    """What comes of a script with two retries."""
    final = {"400": "prompt_too_long", "filtered": "unfinished", "empty": "empty_reply"}
    for what in script[:3]:
        if what not in ("500", "reset", "cut", "broken", "none"):
            return final.get(what, what)
    return "server_error"
