"""Environment of every test: one thread, no screen, no network; and the folder of material that is not shipped."""

import os
import tempfile

# Before torch, OpenMP or Gradio is imported, and for every process that a test starts.
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
    WORKBENCH_CACHE=os.path.join(tempfile.gettempdir(), f"workbench-tests-{os.getpid()}"),
    WORKBENCH_TUNE="0",
)

import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """Skip tests of POSIX systems on Windows; of several processes, none is left alone with a long file at the end.

    Files with slow tests come first, then files with many tests. Needs ``--no-loadscope-reorder``.
    """
    if os.environ.get("PYTEST_XDIST_WORKER"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -tests[item.path], item.path))
    for item in items:
        if os.name == "nt" and item.get_closest_marker("posix"):
            item.add_marker(pytest.mark.skip(reason="Windows has no fork, no such signals and no sh"))


@pytest.fixture(scope="session")
def root():
    """Return the root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared():
    """Return the folder of reference material next to the repository, which is never part of it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' with reference material next to the repository")
    return folder


@pytest.fixture(scope="session")
def patient_gradio():
    """Let Gradio wait minutes for its own server instead of three seconds, too few on a busy machine."""
    from gradio import networking

    url_ok = networking.url_ok
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networking, "url_ok", lambda url: any(url_ok(url) for _ in range(40)))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_flushes_to_disk():
    """Write files without waiting for the disk; only a power failure would lose them, and no test has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Seed torch before a test, so that its random numbers do not depend on the tests that ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def one_thread():
    """Reset torch to one thread after a test that used more."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
