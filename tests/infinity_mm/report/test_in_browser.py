"""The page in headless Chromium: hostile content runs nothing and asks nothing, and nothing sticks out."""

import html
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infinity_mm.report.model import Comparison, Report
from infinity_mm.report.page import POLICY, render

NAMES = ("chromium", "chromium-browser", "google-chrome")
ATTACKS = {
    "img": '"><img src={url}>',
    "onerror": "<img src=x: onerror=\"new Image().src='{url}';document.title='ran'\">",
    "css": "</style><style>body{{background:url({url})}}</style>",
    "link": "<link rel=stylesheet href={url}>",
    "script": "</script><script src={url}></script>",
    "svg": "<svg><image href={url} /></svg>",
    "iframe": "<iframe src={url}></iframe>",
    "refresh": "<meta http-equiv=refresh content=1;url={url}>",
}


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        message = f"needs a browser, and none of {', '.join(NAMES)} is on PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return found


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A real server on this machine: its address, and the paths asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path.strip("/"))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: what was asked is in the list."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def opened(chromium: str, page: str, folder: Path) -> str:
    """Open a page, give it three seconds of its own time; the document as it then is."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [
        chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--window-size=1280,1000",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def attacks(url: str) -> dict[str, str]:
    return {name: text.format(url=f"{url}/{name}") for name, text in ATTACKS.items()}


def test_hostile_content_runs_nothing_and_asks_nothing(
    chromium: str,
    listener: tuple[str, list[str]],
    saying: Callable[[str], list[Report | Comparison]],
    tmp_path: Path,
) -> None:
    url, asked = listener
    for hostile in saying("".join(attacks(url).values())):
        dom = opened(chromium, render(hostile), tmp_path)
        assert "</html>" in dom
        assert not re.search(r"<(script|iframe|link|image)\b", dom)
        assert "<title>ran" not in dom
        assert asked == []


def test_without_escaping_the_listener_hears_every_attack(
    chromium: str, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = listener
    opened(chromium, f"<!doctype html><body>{''.join(attacks(url).values())}", tmp_path)
    assert set(asked) >= set(ATTACKS)


def test_the_policy_alone_stops_all_but_a_page_that_moves_itself(
    chromium: str, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = listener
    unescaped = "".join(text for name, text in attacks(url).items() if name != "refresh")
    policy = html.escape(POLICY)
    page = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{policy}"><body>{unescaped}'
    dom = opened(chromium, page, tmp_path)
    assert "<iframe" in dom
    assert "<title>ran" not in dom
    assert asked == []


def test_nothing_is_wider_than_the_screen(
    chromium: str, saying: Callable[[str], list[Report | Comparison]], tmp_path: Path
) -> None:
    widths = (320, 360, 800, 1600)
    pages = [html.escape(render(model)) for text in ("W" * 3_000, "名" * 3_000) for model in saying(text)]
    frames = [
        f'<iframe style="width:{width}px;height:600px" srcdoc="{page}"></iframe>'
        for page in pages
        for width in widths
    ]
    measure = (
        "<script>onload=()=>{document.title=[...document.querySelectorAll('iframe')].map(f=>{"
        "const d=f.contentDocument,e=d.documentElement;"
        "return [e.scrollWidth,e.clientWidth,d.querySelectorAll('.section').length].join(':')})}</script>"
    )
    dom = opened(chromium, f"<!doctype html><title>?</title>{''.join(frames)}{measure}", tmp_path)
    title = re.search(r"<title>([\d:,]+)</title>", dom)
    assert title is not None
    seen = [tuple(map(int, one.split(":"))) for one in title[1].split(",")]
    assert len(seen) == len(pages) * len(widths)
    for (wide, inside, sections), width in zip(seen, widths * len(pages), strict=True):
        assert width - 20 <= inside <= width
        assert wide <= inside
        assert sections >= 6
