"""A studio without an open page needs almost no time of the CPU; only the events of buttons are queued."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.visitors import make_services
from workbench.views.studio.page import QUEUE_POLL_SECONDS
from workbench.views.studio.serve import build_studio


@pytest.fixture
def app(tmp_path):
    (tmp_path / "scenes").mkdir()
    services = make_services(command=lambda kind: [], methods=dict)
    app = build_studio(runs=[tmp_path / "runs"], scenes=[tmp_path / "scenes"], services=services)
    yield app
    app.close()


@pytest.mark.parametrize("loop", ["start_processing", "start_progress_updates", "notify_clients"])
def test_the_loops_of_the_empty_queue_run_at_most_five_times_a_second(app, loop, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        app._queue.stopped = len(slept) == 5

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with ThreadPoolExecutor(1) as thread:  # a browser test of the same process keeps a loop running in this one
        thread.submit(asyncio.run, getattr(app._queue, loop)()).result()
    assert len(slept) == 5
    assert min(slept) >= QUEUE_POLL_SECONDS >= 0.2


def test_the_events_of_buttons_are_queued(app):
    """Gradio shows messages of queued events only, and calls ``unload`` events itself."""
    queued = {False: set(), True: set()}
    for event in app.fns.values():
        queued[event.queue] |= {name for _, name in event.targets} - {"unload"}
    assert queued[True] == {"click", "start", "fill", "estimate", "cancel", "measure", "submit", "delete", "save"}
    assert queued[False] == {"load", "tick", "input", "select", "step", "choose", "open", "then"}
