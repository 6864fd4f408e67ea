"""What every test runs under: one thread, no screen, no network; and where material lies that is not shipped."""

import os

# Before torch, OpenMP or Gradio is imported, and for every process that a test starts.
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
)

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """With several workers (``pytest -n 2 --dist loadgroup``) a file stays with one, and so do all browser tests."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group("browser" if folder == "browser" else str(item.path)))
        if os.name == "nt" and item.get_closest_marker("posix"):
            item.add_marker(pytest.mark.skip(reason="Windows has no fork, no such signals and no sh"))


@pytest.fixture(scope="session")
def root():
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared():
    """Reference material that may lie beside the repository but is never part of it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("reference material: no folder 'shared' beside the repository")
    return folder


@pytest.fixture(scope="session")
def patient_gradio():
    """Let Gradio wait for its own server for minutes; it gives up after three seconds, too few on a busy machine."""
    from gradio import networking

    ask = networking.url_ok
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networking, "url_ok", lambda url: any(ask(url) for _ in range(40)))
        yield


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Seed torch before a test, so that its random numbers do not depend on the tests that ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def one_thread():
    """Give torch its one thread back after a test that took more."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
