"""A real chromium on the real studio, served from here; every page is watched for errors and requests."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def specimens() -> ModuleType:
    spec = importlib.util.spec_from_file_location("specimens", Path(__file__).parents[1] / "specimens.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no chromium is installed; on Debian: apt install chromium")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=found, args=CHROMIUM)
        yield started
        started.close()


@pytest.fixture(scope="session")
def contexts(browser):
    """Browser contexts by whether they have a touch screen; sharing one keeps the scripts of Gradio in its cache."""
    made = {}

    def context(touch: bool):
        if touch not in made:
            made[touch] = browser.new_context(has_touch=touch)
        return made[touch]

    yield context
    for one in made.values():
        one.close()


@pytest.fixture(scope="session", autouse=True)
def _short_intervals(patient_gradio):
    """Let pages that follow a run ask four times as often."""
    with pytest.MonkeyPatch.context() as patch:
        for module, names in (("run", "LQ"), ("runs", "Q"), ("networks", "L"), ("video", "LQ")):
            for name, seconds in (("LIVE_SECONDS", 0.25), ("QUIET_SECONDS", 1.25)):
                if name[0] in names:
                    patch.setattr(f"workbench.views.studio.{module}.{name}", seconds)
        yield


@pytest.fixture(scope="session")
def home(specimens, tmp_path_factory) -> Path:
    """Folders of runs and scenes, shared by the tests of a session."""
    root = tmp_path_factory.mktemp("studio")
    specimens.make_scene(root / "scenes" / "disc", frames=12)
    specimens.make_scene(root / "scenes" / "wide", frames=5, height=40, width=80, title="Wide")
    specimens.make_scene(root / "shipped" / "small", frames=3, title="Small")
    run = specimens.make_run(root / "runs" / "mine")
    specimens.add_rows(run, range(1, 401))
    for step in (0, 200, 400):
        specimens.add_snapshot(run, step, softness=2 - step / 400)
    specimens.write_status(run, "finished", 400, steps=400)
    return root


@pytest.fixture(scope="session")
def address(browser, home) -> str:
    from workbench.views.studio import launch

    app, url = launch(
        runs=[home / "runs"], scenes=[home / "scenes", home / "shipped"], quiet=True, wait=False, start=None
    )
    yield url
    app.close()


class Watched:
    """Opens pages; :meth:`check` fails on a script error or a request that leaves this computer."""

    def __init__(self, contexts, address: str) -> None:
        self.contexts, self.address = contexts, address
        self.pages, self.errors, self.outside = [], [], []

    def open(self, path: str = "", *, width: int = 1280, height: int = 1000, touch: bool = False):
        page = self.contexts(touch).new_page()
        self.pages.append(page)
        page.set_default_timeout(60_000)
        page.set_viewport_size({"width": width, "height": height})
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if self._is_error(message) else None)
        page.on("request", lambda request: self.outside.append(request.url) if self._leaves(request.url) else None)
        page.goto(self.address + path)
        return page

    def _is_error(self, message) -> bool:
        return message.type == "error" and "Failed to load resource" not in message.text

    def _leaves(self, url: str) -> bool:
        return not url.startswith((self.address, "data:", "blob:"))

    def check(self) -> None:
        for page in self.pages:
            page.close()
            page.context.clear_cookies()
            page.context.clear_permissions()
        assert not self.errors
        assert not self.outside


@pytest.fixture
def watched(contexts, address):
    made = Watched(contexts, address)
    yield made
    made.check()


@pytest.fixture
def pages(contexts):
    """Like ``watched``, for a test that serves a studio of its own: call it with the address."""
    made = []

    def watch(url: str) -> Watched:
        made.append(Watched(contexts, url))
        return made[-1]

    yield watch
    for one in made:
        one.check()
