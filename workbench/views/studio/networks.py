"""Networks page: all networks in a table, measurements of one or two here, temporal share of the shipped ones."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.errors import BusyError, ConfigError, FolderError, WorkbenchError
from workbench.models.catalog import read_catalog
from workbench.views.studio.jobs import Job, Jobs
from workbench.views.studio.page import LIVE_SECONDS, QUIET, data_of, head, part
from workbench.views.studio.services import Services
from workbench.views.temporal_share import COLUMNS, COMMAND, DIFFERENCE, NOT_MEASURED, shipped_shares

MEASURED = 2
ONLY_LOOKING = "This studio is only for looking; open it with `workbench app` to measure networks."


class Networks:
    """Content of the page: the stored catalog, the stored temporal shares, and the last measurement.

    Args:
        jobs: queue of the measurements.
        services: commands that measure; None: nothing can be measured.
    """

    def __init__(self, jobs: Jobs, services: Services | None) -> None:
        self.jobs, self.services = jobs, services
        self.catalog = read_catalog()
        self.shares = {
            "heads": [*COLUMNS.values(), DIFFERENCE],
            "rows": shipped_shares(),
            "absent": NOT_MEASURED,
            "command": COMMAND,
        }
        self._measuring: Job | None = None

    def now(self) -> dict[str, Any]:
        """Return the table, the temporal share of the shipped networks, and the last measurement."""
        return {
            "rows": self.catalog.rows, "size": self.catalog.size, "measured": self._measured(), "shares": self.shares,
        }  # fmt: skip

    def _measured(self) -> dict[str, Any] | None:
        job = self._measuring
        if job is None or job.state == "cancelled":
            return None
        ahead = self.jobs.ahead(job)
        waiting = f"{ahead} job{'s' * (ahead != 1)} before it" if ahead else job.said
        return {
            "key": job.key, "state": job.state, "said": waiting, "over": job.over, **job.result,
        }  # fmt: skip

    @property
    def busy(self) -> bool:
        """Whether a measurement is under way."""
        return self._measuring is not None and not self._measuring.over

    def measure(self, names: Any) -> Job:
        """Queue a measurement of one network or two.

        Raises:
            ConfigError: not one or two names of networks.
            BusyError: a measurement is under way.
            FolderError: this studio cannot measure.
        """
        if self.services is None:
            raise FolderError(ONLY_LOOKING)
        known = [row["name"] for row in self.catalog.rows]
        if not isinstance(names, list) or not 1 <= len(names) <= MEASURED:
            raise ConfigError(f"choose one network or {MEASURED}")
        for name in names:
            if not isinstance(name, str) or name not in known:
                raise ConfigError(f"no network {str(name)[:40]!r}; choose from the table")
        if self.busy:
            raise BusyError("a measurement is under way; wait for it, or cancel it")
        chosen = list(dict.fromkeys(names))
        title = f"Measure {' and '.join(chosen)}"
        self._measuring = self.jobs.ask("speed", title, self.services.command("speed"), {"names": chosen})
        return self._measuring

    def cancel(self) -> None:
        """End the measurement."""
        if self._measuring is not None:
            self.jobs.cancel(self._measuring.key)


def networks_page(app: gr.Blocks, networks: Networks) -> None:
    """Build the page."""
    head(
        "Networks",
        "Every network of the workbench with its size, what one more frame costs, and where it comes from. Choose two "
        "to measure how long they take on this machine. Below: what the shipped networks gain by neighbor frames.",
    )
    board = part("networks", networks.now(), elem_id="networks-board")
    seen, timer = gr.State({}), gr.Timer(LIVE_SECONDS)

    def tick(before: dict[str, Any]) -> list[Any]:
        now = networks.now()
        pause = gr.skip() if networks.busy else gr.Timer(active=False)
        return [gr.skip(), gr.skip(), pause] if now == before else [now, now, pause]

    def measure(event: gr.EventData) -> list[Any]:
        try:
            networks.measure(data_of(event).get("names"))
        except WorkbenchError as error:
            return [{"problem": str(error)}, gr.skip()]
        return [networks.now() | {"problem": ""}, gr.Timer(active=True)]

    def cancel() -> dict[str, Any]:
        networks.cancel()
        return networks.now()

    app.load(tick, seen, [board, seen, timer], **QUIET)
    timer.tick(tick, seen, [board, seen, timer], **QUIET)
    board.measure(measure, None, [board, timer], **QUIET)
    board.cancel(cancel, None, board, **QUIET)
