"""A small server that speaks OpenAI's chat completions, and misbehaves as each request's text asks.

A request's last text is `SCRIPT name`, SCRIPT a list of behaviours joined by commas, one for each time it is
asked; the last one holds for ever. `say:WORDS` answers these words, `WORDS` alone the same.
"""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """What the server has and what it saw. `asked`: how often each text came; `bodies`: the last of each."""

    def __init__(self) -> None:
        self.card: dict[str, Any] = {
            "id": "toy",
            "owned_by": "vllm",
            "root": "/models/toy",
            "max_model_len": 99,
        }
        self.version = "0.32.0"
        self.asked: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.keys: set[str | None] = set()
        self.lists = 0
        self.down = False  # every answer is 503
        self.most = self.now = 0  # requests under way, at most and now
        self.lock = threading.Lock()
        self.url = ""
        self.open: set[socket.socket] = set()
        self.ended = threading.Event()


def completion(text: Any, model: str = "toy", **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "id": "x", "object": "chat.completion", "model": model, "choices": [choice | changes],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one write
    disable_nagle_algorithm = True
    toy: Server

    def setup(self) -> None:
        super().setup()
        self.toy.open.add(self.connection)

    def finish(self) -> None:
        self.toy.open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.toy.lists += self.path == "/v1/models"
        if self.toy.down:
            return self.give(503, {"error": {"message": "loading"}})
        if self.path == "/version":
            return self.give(200, {"version": self.toy.version})
        if self.path != "/v1/models":
            return self.give(404, {"detail": "Not Found"})
        self.give(200, {"object": "list", "data": [self.toy.card | {"created": time.time_ns()}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        text = said if isinstance(said, str) else said[-1]["text"]
        toy = self.toy
        with toy.lock:
            times = toy.asked[text]
            toy.asked[text] += 1
            toy.bodies[text] = body
            toy.keys.add(self.headers.get("Authorization"))
            toy.now += 1
            toy.most = max(toy.most, toy.now)
        try:
            script = text.split(" ")[0].split(",")
            self.behave("503" if toy.down else script[min(times, len(script) - 1)])
        finally:
            with toy.lock:
                toy.now -= 1

    def behave(self, what: str) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if what.isdigit():
            said = {"401": f"no such key {key}", "400": "This model's maximum context length is 99 tokens"}
            return self.give(int(what), {"error": {"message": said.get(what, f"trouble with {key}")}})
        kind, _, rest = what.partition(":")
        match kind:
            case "wait":  # 429 that asks for so many seconds
                self.give(429, {"error": {"message": "slow down"}}, {"Retry-After": rest})
            case "quota":
                self.give(429, {"error": {"message": "no money", "code": "insufficient_quota"}})
            case "picture":
                self.give(400, {"error": {"message": "cannot identify image file"}})
            case "hang":
                self.toy.ended.wait()
                self.close_connection = True
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.connection.close()
                self.close_connection = True
            case "cut":  # half a body
                self.raw(200, json.dumps(completion("whole")).encode(), announced=500)
                self.close_connection = True
            case "broken":
                self.raw(200, b'{"choices": [')
            case "html":
                self.raw(200, b"<html>hello</html>")
            case "none":
                self.give(200, completion("x") | {"choices": []})
            case "other":
                self.give(200, completion("hello", model="another"))
            case "filtered":
                self.give(200, completion("he", finish_reason="content_filter"))
            case "refusal":
                self.give(200, completion(None, message={"content": None, "refusal": "I won't"}))
            case "empty":
                self.give(200, completion(None if rest else "  \n"))
            case "switch":  # it restarts with another model
                self.toy.card = self.toy.card | {"root": "/models/other"}
                self.behave("reset")
            case "leave":  # the same, once it has answered
                self.toy.card = self.toy.card | {"root": "/models/other"}
                self.close_connection = True
                self.give(200, completion("bye"), {"Connection": "close"})
            case "logprobs":
                top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -9999.0}]
                end = {"token": "<|im_end|>", "logprob": -0.2, "top_logprobs": []}
                told = {"content": [{"token": "yes", "logprob": -0.1, "top_logprobs": top}, end]}
                self.give(200, completion("yes", logprobs=told))
            case "slow":
                time.sleep(0.1)
                self.give(200, completion("slow"))
            case _:
                self.give(200, completion(rest if kind == "say" else kind))

    def give(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.raw(status, json.dumps(body).encode(), headers=headers)

    def raw(
        self, status: int, body: bytes, announced: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(announced or len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    """A server on this machine until the end of the block."""
    toy = Server()
    handler = type("ToyHandler", (Handler,), {"toy": toy})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    toy.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield toy
    finally:
        toy.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
        for connection in list(toy.open):  # those that are kept alive too
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
