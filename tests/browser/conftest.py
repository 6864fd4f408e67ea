"""A real chromium on the real studio, served from here; every page is watched for errors and requests."""

import logging
import shutil
from pathlib import Path

import pytest

from tests import specimens
from tests.browser.lens_page import LENS
from tests.browser.studio_page import ROWS, WORK, empty_folder, script, wait_scene
from tests.visitors import make_services
from workbench.runs import RunWriter
from workbench.scenes import read_scene

logger = logging.getLogger(__name__)
INSPECT = Path(__file__).parent / "inspect.js"
TOUR_CLOSED = "try { localStorage.setItem('workbench-tour', 'closed'); } catch { /* a page without storage */ }"
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items):
    """Let a browser test that timed out run once more: on a busy machine, chromium can lose a page."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=["Timeout"]))


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
            made[touch].add_init_script(path=INSPECT)
            made[touch].add_init_script(TOUR_CLOSED)
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
def home(tmp_path_factory) -> Path:
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

    app, url = launch(runs=[home / "runs"], scenes=[home / "scenes", home / "shipped"], services=make_services())
    yield url
    app.close()


class Watched:
    """Opens pages; :meth:`check` fails on a script error or a request that leaves this computer."""

    def __init__(self, contexts, address: str) -> None:
        self.contexts, self.address = contexts, address
        self.pages, self.errors, self.outside, self.unanswered = [], [], [], {}

    def open(self, path: str = "", *, width: int = 1280, height: int = 1000, touch: bool = False):
        page = self.contexts(touch).new_page()
        self.pages.append(page)
        page.set_default_timeout(60_000)
        page.set_viewport_size({"width": width, "height": height})
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if self._is_error(message) else None)
        page.on("request", lambda request: self.outside.append(request.url) if self._leaves(request.url) else None)
        page.on("request", lambda request: self.unanswered.update({request: request.url}))
        page.on("requestfinished", lambda request: self.unanswered.pop(request, None))
        page.on("requestfailed", lambda request: self.unanswered.update({request: f"{request.url}: {request.failure}"}))
        page.goto(self.address + path)
        return page

    def _is_error(self, message) -> bool:
        return message.type == "error" and "Failed to load resource" not in message.text

    def _leaves(self, url: str) -> bool:
        return not url.startswith((self.address, "data:", "blob:"))

    def check(self) -> None:
        if self.unanswered:  # pytest shows it below a failed test
            logger.warning("requests without an answer: %s", list(self.unanswered.values()))
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


@pytest.fixture
def serve(pages):
    """Return a function that serves a studio of a test and returns its pages."""
    from workbench.views.studio import launch

    apps, watched = [], []

    def start(**options) -> Watched:
        app, url = launch(**{"services": make_services()} | options)
        apps.append(app)
        watched.append(pages(url))
        return watched[-1]

    yield start
    for page in (page for one in watched for page in one.pages):
        page.close()  # an open page reports that its server is gone
    for app in apps:
        app.close()


@pytest.fixture
def scene(home):
    """Return the scene that the fixture ``lens`` shows."""
    return read_scene(home / "scenes" / "disc")


@pytest.fixture
def lens(watched):
    """Return a page with a loaded lens."""
    page = watched.open("?scene=disc")
    page.wait_for_selector(LENS)
    return page


@pytest.fixture(scope="session")
def runs_studio(browser, tmp_path_factory):
    """A read-only studio with a folder of runs: its address and that folder."""
    from workbench.views.studio import launch

    folder = tmp_path_factory.mktemp("runs")
    app, url = launch(runs=[folder], scenes=[], services=make_services())
    yield url, folder
    app.close()


@pytest.fixture
def runs_page(runs_studio, pages):
    """Pages of a studio with an empty folder of runs, and that folder."""
    url, folder = runs_studio
    empty_folder(folder)
    return pages(url), folder


@pytest.fixture
def live(runs_page):
    """A live run, its writer, and a page that shows it."""
    watched, folder = runs_page
    run = specimens.make_run(folder / "live")
    specimens.add_rows(run, range(1, 41))
    specimens.add_snapshot(run, 0)
    specimens.add_snapshot(run, 40, softness=1.0)
    writer = RunWriter(run.folder)
    specimens.write_status(run, "running", 40)
    older = specimens.make_run(folder / "older")
    specimens.write_status(older, "finished", 1000)
    page = watched.open("run")
    wait_scene(page, "live-40")
    yield run, writer, page
    writer.close()


@pytest.fixture(scope="session")
def studio_server(browser, tmp_path_factory):
    """A studio with all services: its address and its folders of runs and scenes."""
    from workbench.models.catalog import Catalog
    from workbench.views.studio import launch, networks

    services = make_services(
        names=lambda: {"student.name": ["vespcn", "vespcn_s"]},
        command=lambda kind: script(WORK[kind]),
        methods=lambda: {"bicubic": "Bicubic", "teacher": "Teacher"},
    )
    runs, scenes = (tmp_path_factory.mktemp("studio") / name for name in ("runs", "scenes"))
    runs.mkdir()
    scenes.mkdir()
    with pytest.MonkeyPatch.context() as patch:  # read once, at the start
        patch.setattr(networks, "read_catalog", lambda: Catalog(height=120, width=180, rows=ROWS))
        app, url = launch(runs=[runs], scenes=[scenes], services=services, save_scenes=True)
    yield url, runs, scenes
    app.close()


@pytest.fixture
def studio(studio_server, pages):
    """Pages of that studio with empty folders, and its folder of runs."""
    url, runs, scenes = studio_server
    empty_folder(runs)
    empty_folder(scenes)
    return pages(url), runs
