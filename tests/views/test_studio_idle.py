"""A studio without an open page needs almost no time of the CPU; events are processed at once."""

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
def test_the_loops_of_the_empty_queue_run_at_most_twice_a_second(app, loop, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        app._queue.stopped = len(slept) == 5

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with ThreadPoolExecutor(1) as thread:  # a browser test of the same process keeps a loop running in this one
        thread.submit(asyncio.run, getattr(app._queue, loop)()).result()
    assert len(slept) == 5
    assert min(slept) >= QUEUE_POLL_SECONDS >= 0.5


def test_no_event_is_queued(app):
    """Gradio calls ``unload`` events itself, without the queue."""
    events = [event for event in app.fns.values() if event.targets[0][1] != "unload"]
    assert len(app.fns) > 20
    assert {event.queue for event in events} == {False}
