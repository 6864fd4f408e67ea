"""Networks page: all networks in a table, measurements of one or two here, temporal share of the shipped ones."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.errors import BusyError, WorkbenchError
from workbench.models.catalog import read_catalog
from workbench.views.studio.form import check_selection
from workbench.views.studio.job_queue import Job, JobQueue
from workbench.views.studio.page import ACTION, IMMEDIATE, LIVE_SECONDS, component, event_data, page_heading
from workbench.views.studio.services import Services
from workbench.views.temporal_share import COLUMNS, COMMAND, DIFFERENCE, NOT_MEASURED, shipped_shares

MAX_MEASURED = 2


class Networks:
    """Content of the page: the stored catalog, the stored temporal shares, and the last measurement.

    Args:
        queue: queue of the measurements.
        services: functions and commands that need networks.
    """

    def __init__(self, queue: JobQueue, services: Services) -> None:
        self.queue, self.services = queue, services
        self.catalog = read_catalog()
        self.shares = {
            "heads": [*COLUMNS.values(), DIFFERENCE],
            "rows": shipped_shares(),
            "absent": NOT_MEASURED,
            "command": COMMAND,
        }
        self._job: Job | None = None

    def state(self) -> dict[str, Any]:
        """Return the table, the temporal share of the shipped networks, and the last measurement."""
        return {
            "rows": self.catalog.rows, "size": self.catalog.size, "measured": self._measured(), "shares": self.shares,
        }  # fmt: skip

    def _measured(self) -> dict[str, Any] | None:
        job = self._job
        if job is None or job.state == "canceled":
            return None
        return self.queue.describe(job) | job.result

    @property
    def is_busy(self) -> bool:
        """Whether a measurement is in progress."""
        return self._job is not None and not self._job.finished

    def measure(self, names: Any) -> Job:
        """Queue a measurement of one network or two.

        Raises:
            ConfigError: not one or two names of networks.
            BusyError: a measurement is in progress.
        """
        selected = check_selection("names", names, [row["name"] for row in self.catalog.rows], MAX_MEASURED)
        if self.is_busy:
            raise BusyError("a measurement is in progress; wait for it, or cancel it")
        title = f"Measure {' and '.join(selected)}"
        self._job = self.queue.submit("speed", title, self.services.command("speed"), {"names": selected})
        return self._job

    def cancel(self) -> None:
        """Cancel the measurement."""
        if self._job is not None:
            self.queue.cancel(self._job.key)


def networks_page(app: gr.Blocks, networks: Networks) -> None:
    """Lay out the page."""
    page_heading(
        "Networks",
        "All networks of the workbench: size, cost of one more frame, and paper. Select one or two to measure their "
        "speed on this machine. The table at the end shows how much the shipped networks gain from neighboring frames.",
    )
    board = component("networks", networks.state(), elem_id="networks-board")
    previous, timer = gr.State({}), gr.Timer(LIVE_SECONDS)

    def tick(previous: dict[str, Any]) -> list[Any]:
        state = networks.state()
        pause = gr.skip() if networks.is_busy else gr.Timer(active=False)
        return [gr.skip(), gr.skip(), pause] if state == previous else [state, state, pause]

    def measure(event: gr.EventData) -> list[Any]:
        try:
            networks.measure(event_data(event).get("names"))
        except WorkbenchError as error:
            return [{"problem": str(error)}, gr.skip()]
        return [networks.state() | {"problem": ""}, gr.Timer(active=True)]

    def cancel() -> dict[str, Any]:
        networks.cancel()
        return networks.state()

    app.load(tick, previous, [board, previous, timer], **IMMEDIATE)
    timer.tick(tick, previous, [board, previous, timer], **IMMEDIATE)
    board.measure(measure, None, [board, timer], **ACTION)
    board.cancel(cancel, None, board, **ACTION)
