"""Embedded viewers of the documentation site: opened from disk and from a server of static files."""

import functools
import http.server
import re
import runpy
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.browser

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    """Folder with the viewers as the build writes them, and a page that embeds them as docs/viewers.md does."""
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    folder = tmp_path_factory.mktemp("site")
    write_viewers = runpy.run_path(str(DOCS / "conf.py"))["write_viewers"]
    write_viewers(SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=folder), None)
    page = (DOCS / "viewers.md").read_text(encoding="utf-8")
    raw = re.findall(r"^```\{raw\} html\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    head = '<!doctype html><title>Viewers</title><link rel="icon" href="data:,">'
    (folder / "viewers.html").write_text(head + "".join(raw), encoding="utf-8")
    return folder


@pytest.fixture(params=["file", "server"])
def address(request, site):
    if request.param == "file":
        yield site.as_uri()
        return

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_viewers_are_small(site):
    sizes = [path.stat().st_size for path in (site / "viewers").iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 10_000_000


def test_both_viewers_work(browser, address):
    errors, requests = [], []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{address}/viewers.html")
        assert page.locator("iframe").count() == 2
        for frame in map(page.frame_locator("iframe").nth, range(2)):
            frame.locator("body").scroll_into_view_if_needed()
            frame.locator(".lens[data-frame='0']").wait_for()
            frame.get_by_label("Frame", exact=True).fill("5")
            frame.locator(".lens[data-frame='5']").wait_for()
        run = page.frame_locator("iframe").nth(0)
        run.get_by_label("Training step").fill("0")
        run.get_by_role("heading", name="Step 0", exact=True).wait_for()
    assert not errors
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)
