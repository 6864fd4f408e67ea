"""Train page: a form with all settings, an estimate of time and memory, and the view of the run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import gradio as gr

from workbench.errors import BusyError, ConfigError, WorkbenchError
from workbench.presets import PRESETS
from workbench.runs import Run
from workbench.scenes import check_name
from workbench.views.progress import duration
from workbench.views.studio import form
from workbench.views.studio.folders import Studio
from workbench.views.studio.job_queue import Job, JobQueue
from workbench.views.studio.page import ACTION, IMMEDIATE, component, event_data, page_heading
from workbench.views.studio.run import run_view
from workbench.views.studio.services import Services

FIRST_PRESET = "demo"


class Train:
    """Actions of the page.

    Args:
        studio: the runs.
        queue: queue of the estimates.
        services: functions and commands that need networks.
    """

    def __init__(self, studio: Studio, queue: JobQueue, services: Services) -> None:
        self.studio, self.queue, self.services = studio, queue, services
        form.form_fields()  # parse here: `ast.parse` of Python 3.11 can fail in threads that parse at the same time

    def load(self) -> dict[str, Any]:
        """Return the form, filled with the first preset."""
        return form.describe(self.services.names()) | self.fill(FIRST_PRESET)

    def fill(self, preset: Any) -> dict[str, Any]:
        """Return the values of a preset."""
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"preset: want one of {', '.join(PRESETS)}, got {str(preset)[:40]!r}")
        values = form.values_of(PRESETS[preset]())
        return {"values": values, "preset": preset, "name": "", "problem": "", "estimate": ""}

    def duplicate(self, choice: Any) -> dict[str, Any]:
        """Return the values of an existing run."""
        run = self.studio.run(choice)
        return {
            "values": form.values_of(run.config()), "preset": "", "name": "", "estimate": "", "problem": "",
            "note": f"Settings of {run.name}. Change some of them, then start.",
        }  # fmt: skip

    def start(self, data: Mapping[str, Any]) -> Run:
        """Check the settings, write the run folder and start its worker.

        Raises:
            WorkbenchError: the message begins with the name of the setting, where it is one.
        """
        config, queue = form.parse(data.get("values")), data.get("queue") is True
        name = data.get("name", "")
        if not isinstance(name, str):
            raise ConfigError("name: want text")
        preset = data.get("preset") if data.get("preset") in PRESETS else "run"
        name = check_name(name.strip() or time.strftime(f"{preset}-%Y%m%d-%H%M%S"), "run")
        with self.studio.starting:
            if not queue:
                self.studio.check_idle()
            try:
                run = self.services.prepare(self.studio.runs[0] / name, config)
            except WorkbenchError:
                raise
            except (ValueError, TypeError, RuntimeError, OSError, ArithmeticError) as error:
                raise ConfigError(f"these settings cannot be trained: {error}") from error
            self.studio.start(run, queue=queue)
        return run

    def estimate(self, data: Mapping[str, Any]) -> Job:
        """Queue a measurement of a few steps.

        Raises:
            WorkbenchError: invalid settings, or an estimate is in progress.
        """
        config = form.parse(data.get("values"))
        if any(not job.finished for job in self.queue.jobs("estimate")):
            raise BusyError("an estimate is in progress; wait for it, or cancel it")
        title = f"Estimate: {config.student.name}"
        return self.queue.submit("estimate", title, self.services.command("estimate"), config.to_dict())

    def estimate_state(self, key: Any) -> tuple[dict[str, Any], bool]:
        """Return the state of an estimate for the form, and whether it is in progress."""
        job = self.queue.job(key)
        if not job.finished:
            return {"estimate": f"{self.queue.describe(job)['message']} …", "measuring": job.key}, True
        if job.state != "done":
            return {"estimate": "", "measuring": "", "problem": job.message}, False
        text = estimate_text(job.result, job.request["steps"], job.request["stop_after_seconds"])
        return {"estimate": text, "measuring": ""}, False


def estimate_text(measured: Mapping[str, Any], steps: int, stop_after_seconds: float) -> str:
    """Return an estimate in two or three sentences.

    Args:
        measured: result of the measurement.
        steps: training steps.
        stop_after_seconds: time limit; 0: none.

    Example:
        >>> measured = {"seconds_per_step": 0.5, "peak_mib": 600.0, "free_mib": 4096.0, "fits": True}
        >>> estimate_text(measured, 7200, 0)
        'About 1 h 0 min for 7,200 steps (0.5 s each), without snapshots. Needs 0.6 GiB of memory; 4.0 GiB are free.'
        >>> estimate_text(measured, 7200, 120).partition(" (")[0]
        'About 2 min 0 s, its time limit, for 240 of 7,200 steps'
    """
    pace = measured["seconds_per_step"]
    length = f"{duration(pace * steps)} for"
    if 0 < stop_after_seconds < pace * steps:
        length = f"{duration(stop_after_seconds)}, its time limit, for {stop_after_seconds / pace:,.0f} of"
    text = (
        f"About {length} {steps:,} steps ({pace:.2g} s each), without snapshots. "
        f"Needs {measured['peak_mib'] / 1024:.1f} GiB of memory; {measured['free_mib'] / 1024:.1f} GiB are free."
    )
    if "settings" in measured:
        text += f" Settings: {measured['settings']}."
    return text if measured["fits"] else f"{text} Not enough: halve the batch size or the crop size."


def train_page(app: gr.Blocks, train: Train) -> None:
    """Lay out the page."""
    page_heading(
        "Train",
        "Train a small network, with or without a teacher. Choose the networks and the data, estimate the time, start, "
        "and follow the run below. A run continues when this page or the studio is closed.",
    )
    sheet = component("form", {}, elem_id="train-form")
    gr.HTML("<h2>Run</h2>", js_on_load=None, elem_classes="page-head")
    view = run_view(app, train.studio, "train", action="Duplicate")
    job_key, timer = gr.State(""), gr.Timer(0.7, active=False)

    def start(event: gr.EventData) -> list[Any]:
        try:
            run = train.start(event_data(event))
        except WorkbenchError as error:
            return [{"problem": str(error)}, *([gr.skip()] * len(view.outputs))]
        note = f"{run.name} was created and starts; follow it below."
        return [{"problem": "", "note": note}, *view.show(run.name)]

    def fill(event: gr.EventData) -> dict[str, Any]:
        return train.fill(event_data(event).get("preset")) | {"note": ""}

    def estimate(event: gr.EventData) -> list[Any]:
        try:
            job = train.estimate(event_data(event))
        except WorkbenchError as error:
            return [{"problem": str(error)}, "", gr.Timer(active=False)]
        return [{"problem": "", "note": ""} | train.estimate_state(job.key)[0], job.key, gr.Timer(active=True)]

    def cancel(key: str) -> dict[str, Any]:
        if key:
            train.queue.cancel(key)
        return {"estimate": "", "measuring": ""}

    def tick(key: str) -> list[Any]:
        if not key:
            return [gr.skip(), gr.Timer(active=False)]
        state, in_progress = train.estimate_state(key)
        return [state, gr.skip() if in_progress else gr.Timer(active=False)]

    app.load(train.load, None, sheet, **IMMEDIATE)
    sheet.start(start, None, [sheet, *view.outputs], **ACTION)
    sheet.fill(fill, None, sheet, **ACTION)
    sheet.estimate(estimate, None, [sheet, job_key, timer], **ACTION)
    sheet.cancel(cancel, job_key, sheet, **ACTION)
    timer.tick(tick, job_key, [sheet, timer], **IMMEDIATE)
    view.action.click(train.duplicate, view.choice, sheet, **ACTION)
