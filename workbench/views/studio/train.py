"""The Train page: a form of all settings, an estimate before the start, and the run as it goes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import gradio as gr

from workbench.config import PRESETS
from workbench.errors import BusyError, ConfigError, FolderError, WorkbenchError
from workbench.runs import Run
from workbench.scenes import check_name
from workbench.views.studio import form
from workbench.views.studio.folders import Studio
from workbench.views.studio.jobs import Job, Jobs
from workbench.views.studio.page import QUIET, data_of, head, part
from workbench.views.studio.run import follow
from workbench.views.studio.services import Services

FIRST_PRESET = "demo"
ONLY_LOOKING = "This studio is only for looking at runs; open it with `workbench app` to train."


class Train:
    """What the Train page asks for.

    Args:
        studio: the runs.
        jobs: where an estimate is made.
        services: what needs networks; None: nothing can be started.
    """

    def __init__(self, studio: Studio, jobs: Jobs, services: Services | None) -> None:
        self.studio, self.jobs, self.services = studio, jobs, services

    def describe(self) -> dict[str, Any]:
        """The form, filled with the first preset."""
        if self.services is None:
            return {"message": ONLY_LOOKING}
        return form.described(self.services.names()) | self.fill(FIRST_PRESET)

    def fill(self, preset: Any) -> dict[str, Any]:
        """The form's values for a preset."""
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"no preset {str(preset)[:40]!r}; there are {', '.join(PRESETS)}")
        return {
            "values": form.values_of(PRESETS[preset]()),
            "preset": preset,
            "name": "",
            "problem": "",
            "estimate": "",
        }

    def duplicate(self, choice: Any) -> dict[str, Any]:
        """The form's values for another run like one that is there."""
        run = self.studio.run(choice)
        return {
            "values": form.values_of(run.config()), "preset": "", "name": "", "estimate": "", "problem": "",
            "note": f"The settings of {run.name}. Change what shall differ, then start.",
        }  # fmt: skip

    def start(self, data: Mapping[str, Any]) -> Run:
        """Check what the form says, lay out the run, start its worker.

        Raises:
            WorkbenchError: in words that begin with the name of the setting, where it is one.
        """
        if self.services is None:
            raise FolderError(ONLY_LOOKING)
        config, wait = form.read(data.get("values")), data.get("wait") is True
        name = data.get("name", "")
        if not isinstance(name, str):
            raise ConfigError("name: want text")
        preset = data.get("preset") if data.get("preset") in PRESETS else "run"
        name = check_name(name.strip() or time.strftime(f"{preset}-%Y%m%d-%H%M%S"), "run")
        with self.studio.starting:
            if not wait:
                self.studio.check_free()
            try:
                run = self.services.prepare(self.studio.runs[0] / name, config)
            except WorkbenchError:
                raise
            except (ValueError, TypeError, RuntimeError, OSError, ArithmeticError) as error:
                raise ConfigError(f"this cannot be trained: {error}") from error
            self.studio.start(run, wait=wait)
        return run

    def estimate(self, data: Mapping[str, Any]) -> Job:
        """Ask for a short measurement.

        Raises:
            WorkbenchError: in words.
        """
        if self.services is None:
            raise FolderError(ONLY_LOOKING)
        config = form.read(data.get("values"))
        if any(not job.over for job in self.jobs.known("estimate")):
            raise BusyError("an estimate is being made already; wait for it, or cancel it")
        title = f"Estimate: {config.student.name}"
        return self.jobs.ask("estimate", title, self.services.command("estimate"), config.to_dict(), steps=config.steps)

    def estimated(self, key: Any) -> tuple[dict[str, Any], bool]:
        """What the form shows of an estimate, and whether more is to be expected."""
        job = self.jobs.job(key)
        if not job.over:
            ahead = self.jobs.ahead(job)
            words = f"waiting for {ahead} other job{'s' * (ahead != 1)}" if ahead else "measuring a few steps"
            return {"estimate": f"{words} …", "measuring": job.key}, True
        if job.state != "done":
            return {"estimate": "", "measuring": "", "problem": "" if job.state == "cancelled" else job.said}, False
        return {"estimate": estimate_words(job.result, job.about["steps"]), "measuring": ""}, False


def estimate_words(seen: Mapping[str, Any], steps: int) -> str:
    """What a measurement means, in one or two sentences.

    Example:
        >>> estimate_words({"seconds_per_step": 0.5, "peak_mib": 600.0, "free_mib": 4096.0, "fits": True}, 7200)
        'About 1:00:00 for 7,200 steps (0.5 s each), and 0.6 GiB of memory; 4.0 GiB are free. Looks at the probe clip \
come on top.'
    """
    pace = seen["seconds_per_step"]
    took = timedelta(seconds=round(pace * steps))
    room = f"{seen['peak_mib'] / 1024:.1f} GiB of memory; {seen['free_mib'] / 1024:.1f} GiB are free"
    words = f"About {took} for {steps:,} steps ({pace:.2g} s each), and {room}."
    if not seen["fits"]:
        return f"{words} That is too tight: halve the batch or the crop."
    return f"{words} Looks at the probe clip come on top."


def train_page(app: gr.Blocks, train: Train) -> None:
    """Lay out the page."""
    head(
        "Train",
        "Teach a small network what a large one knows: choose who learns from whom and on what, let a few steps be "
        "measured, start, and watch. A training goes on when this page, or the studio, is closed.",
    )
    sheet = part("form", {"message": "Loading …"}, elem_id="train-form")
    gr.HTML("<h2>The run</h2>", js_on_load=None, elem_classes="page-head")
    view = follow(app, train.studio, "train", begin="Duplicate")
    measuring, pulse = gr.State(""), gr.Timer(0.7, active=False)

    def refused(error: WorkbenchError) -> dict[str, Any]:
        return {"problem": str(error)}

    def start(event: gr.EventData) -> list[Any]:
        try:
            run = train.start(data_of(event))
        except WorkbenchError as error:
            return [refused(error), *([gr.skip()] * len(view.outputs))]
        note = f"{run.name} is laid out and begins; follow it below."
        return [{"problem": "", "note": note, "started": run.name}, *view.go_to(run.name)]

    def fill(event: gr.EventData) -> dict[str, Any]:
        return train.fill(data_of(event).get("preset")) | {"note": ""}

    def estimate(event: gr.EventData) -> list[Any]:
        try:
            job = train.estimate(data_of(event))
        except WorkbenchError as error:
            return [refused(error), "", gr.Timer(active=False)]
        return [{"problem": "", "note": ""} | train.estimated(job.key)[0], job.key, gr.Timer(active=True)]

    def cancel(key: str) -> dict[str, Any]:
        if key:
            train.jobs.cancel(key)
        return {"estimate": "", "measuring": ""}

    def beat(key: str) -> list[Any]:
        if not key:
            return [gr.skip(), gr.Timer(active=False)]
        shown, more = train.estimated(key)
        return [shown, gr.skip() if more else gr.Timer(active=False)]

    app.load(train.describe, None, sheet, **QUIET)
    sheet.start(start, None, [sheet, *view.outputs], **QUIET)
    sheet.fill(fill, None, sheet, **QUIET)
    sheet.estimate(estimate, None, [sheet, measuring, pulse], **QUIET)
    sheet.cancel(cancel, measuring, sheet, **QUIET)
    pulse.tick(beat, measuring, [sheet, pulse], **QUIET)
    view.begin.click(train.duplicate, view.choice, sheet, **QUIET)
