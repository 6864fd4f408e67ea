"""The Networks page: all networks in a table, and two of them measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

import gradio as gr

from workbench.errors import BusyError, ConfigError, FolderError, WorkbenchError
from workbench.views.studio.jobs import Job, Jobs
from workbench.views.studio.page import LIVE_SECONDS, QUIET, data_of, head, part
from workbench.views.studio.services import Services

MEASURED = 2
ONLY_LOOKING = "This studio is only for looking; open it with `workbench app` to see the networks."


class Networks:
    """What the page asks for. The table is made when somebody first asks for it, and then kept.

    Args:
        jobs: where things are counted and measured.
        services: what needs networks; None: there is no table.
    """

    def __init__(self, jobs: Jobs, services: Services | None) -> None:
        self.jobs, self.services = jobs, services
        self._lock = Lock()
        self._listing: Job | None = None
        self._counting: Job | None = None
        self._measuring: Job | None = None

    def now(self) -> dict[str, Any]:
        """The table as far as it is known, and the last measurement."""
        if self.services is None:
            return {"message": ONLY_LOOKING}
        with self._lock:
            self._listing = self._asked(self._listing, {"macs": False})
            if self._listing.state == "done":
                self._counting = self._asked(self._counting, {"macs": True})
        counted = self._counting if self._counting is not None and self._counting.state == "done" else self._listing
        return {
            "rows": counted.result.get("rows", []),
            "size": counted.result.get("size", ""),
            "said": self._said(),
            "measured": self._measured(),
        }

    def _asked(self, job: Job | None, order: Mapping[str, Any]) -> Job:
        """The job that makes the table; what was cancelled is asked for again, what failed is not."""
        assert self.services is not None
        if job is not None and job.state != "cancelled":
            return job
        title = "Count what the networks compute" if order["macs"] else "List the networks"
        return self.jobs.ask("networks", title, self.services.command("networks"), order)

    def _said(self) -> str:
        for job in (self._listing, self._counting):
            if job is not None and job.state == "failed":
                return f"The table is not whole: {job.said}"
            if job is not None and not job.over:
                return f"{job.title}: {job.said or 'waiting'} …"
        return ""

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
        """Whether more is to be expected."""
        jobs = (self._listing, self._counting, self._measuring)
        return any(job is not None and not job.over for job in jobs)

    def measure(self, names: Any) -> Job:
        """Ask for one network, or two, to be measured here.

        Raises:
            WorkbenchError: in words.
        """
        if self.services is None:
            raise FolderError(ONLY_LOOKING)
        known = [row["name"] for row in self._listing.result.get("rows", [])] if self._listing is not None else []
        if not isinstance(names, list) or not 1 <= len(names) <= MEASURED:
            raise ConfigError(f"choose one network or {MEASURED}")
        for name in names:
            if not isinstance(name, str) or name not in known:
                raise ConfigError(f"no network {str(name)[:40]!r}; choose from the table")
        if self._measuring is not None and not self._measuring.over:
            raise BusyError("a measurement is under way; wait for it, or cancel it")
        if self._counting is not None and not self._counting.over:
            self.jobs.cancel(self._counting.key)  # it takes a minute, and begins anew after the measurement
        chosen = list(dict.fromkeys(names))
        title = f"Measure {' and '.join(chosen)}"
        self._measuring = self.jobs.ask("speed", title, self.services.command("speed"), {"names": chosen})
        return self._measuring

    def cancel(self) -> None:
        """End the measurement."""
        if self._measuring is not None:
            self.jobs.cancel(self._measuring.key)


def networks_page(app: gr.Blocks, networks: Networks) -> None:
    """Lay out the page."""
    head(
        "Networks",
        "Every network of the workbench with its size, what one more frame costs, and where it comes from. Choose two "
        "to measure how long they take on this machine.",
    )
    board = part("networks", {"message": "Loading …"}, elem_id="networks-board")
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
