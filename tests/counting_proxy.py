"""A proxy before a server of chat completions, which counts what was answered and knows when to strike."""

import hashlib
import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Proxy:
    """`answered`: how often a request, by its digest, was answered with 200. The request after `strike_after`
    of them is on its way to the server when `strike` is called."""

    def __init__(self, behind: int, strike_after: int, strike: Callable[[], None]) -> None:
        self.behind, self.strike_after, self.strike = behind, strike_after, strike
        self.answered: Counter[str] = Counter()
        self.struck = threading.Event()
        self.lock = threading.Lock()
        self.url = ""

    def due(self) -> bool:
        with self.lock:
            if self.struck.is_set() or self.answered.total() < self.strike_after:
                return False
            self.struck.set()
            return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one write
    disable_nagle_algorithm = True
    proxy: Proxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.forward(b"")

    def do_POST(self) -> None:
        self.forward(self.rfile.read(int(self.headers["Content-Length"])))

    def forward(self, body: bytes) -> None:
        """Pass a request on, and its answer back; without one, break the connection off."""
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        server = http.client.HTTPConnection("127.0.0.1", self.proxy.behind)
        try:
            server.request(self.command, self.path, body or None, headers if body else {})
            if body and self.proxy.due():
                self.proxy.strike()
            response = server.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            server.close()
        if body and response.status == 200:
            with self.proxy.lock:
                self.proxy.answered[hashlib.sha256(body).hexdigest()] += 1
        self.send_response(response.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(said)
            self.wfile.flush()


@contextmanager
def proxied(behind: int, strike_after: int, strike: Callable[[], None]) -> Iterator[Proxy]:
    """A proxy before the server at a port of this machine, until the end of the block."""
    proxy = Proxy(behind, strike_after, strike)
    handler = type("ProxyHandler", (Handler,), {"proxy": proxy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
