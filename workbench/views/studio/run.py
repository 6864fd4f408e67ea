"""Run page, and the view of one run that the Train page has too: progress, snapshots, stop and resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.views.lens.gradio_lens import lens_viewer, run_progress
from workbench.views.studio.folders import NO_SNAPSHOT, Studio, select_by_name
from workbench.views.studio.page import ACTION, IMMEDIATE, LIVE_SECONDS, QUIET_SECONDS, event_data, page_heading, toast

NEWEST: dict[str, Any] = {"step": None, "follow": True}
"""Request for the newest snapshot."""

FLAGS = ("live", "can_stop", "can_resume")
"""Parts of ``RunView.state`` that the buttons and the timer depend on."""


def run_page(app: gr.Blocks, studio: Studio, start: Callable[[], str]) -> None:
    """Lay out the page."""
    page_heading(
        "Run",
        "A costly network, the teacher, trains a fast one, the distilled student. Choose a training step: the page "
        "compares the distilled student with the plain student, the same network without a teacher, both at that step, "
        "on the validation clip, which neither is trained on.",
    )
    view = run_view(app, studio, "run", action="Start a short run")
    view.action.click(lambda: view.show(start()), None, view.outputs, **ACTION)


@dataclass(frozen=True)
class RunViewComponents:
    """Components of the view of a run.

    Attributes:
        choice: the dropdown.
        action: a further button.
        outputs: components that :attr:`show` returns values for.
        show: function that shows a run of the user's own by its name.
    """

    choice: gr.Dropdown
    action: gr.Button
    outputs: list[Any]
    show: Callable[[str], list[Any]]


def run_view(app: gr.Blocks, studio: Studio, prefix: str, *, action: str) -> RunViewComponents:
    """Lay out the view of a run, which is updated while the run is live.

    Args:
        app: the pages.
        studio: runs and scenes.
        prefix: beginning of the components' ids.
        action: label of a further button.
    """
    with gr.Row(elem_classes="pick"):
        choice = gr.Dropdown([], label="Run", elem_id=prefix, scale=6, container=False)
        size: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 96}
        refresh = gr.Button("Refresh", elem_id=f"{prefix}-refresh", **size)
        stop = gr.Button("Stop", elem_id=f"{prefix}-stop", variant="stop", interactive=False, **size)
        resume = gr.Button("Resume", elem_id=f"{prefix}-resume", interactive=False, **size)
        queue = gr.Checkbox(
            label="Queue", elem_id=f"{prefix}-queue", elem_classes="queue", container=False, visible=False, min_width=90
        )
        button = gr.Button(action, elem_id=f"{prefix}-start", **{**size, "min_width": 140})
    lead = gr.HTML(js_on_load=None, elem_id=f"{prefix}-lead")
    state = run_progress({"message": "Loading …"}, elem_id=f"{prefix}-progress")
    lens = lens_viewer({"message": NO_SNAPSHOT}, elem_id=f"{prefix}-lens")
    with gr.Accordion("Settings of this run", open=False):
        config = gr.HTML(js_on_load=None, elem_id=f"{prefix}-config", elem_classes="run-config")
    timer = gr.Timer(LIVE_SECONDS)
    # Only the user's actions write `requested`, only updates write `previous`: a slow update never undoes a choice.
    # While the user has chosen nothing ("auto"), the page changes to a run that starts.
    requested, previous = gr.State(NEWEST), gr.State({})
    updated = [state, lens, lead, config, stop, resume, queue, timer, previous]

    def update(name: str | None, requested: dict[str, Any], previous: dict[str, Any]) -> list[Any]:
        view = studio.view_run(name, requested, previous)
        values = [gr.skip() if part is None else part for part in (view.progress, view.scene, view.lead, view.config)]
        if view.progress is not None:  # the lens has a slider for training steps too
            steps = {"all": view.progress.get("snapshots", []), "at": view.progress.get("step")}
            values[1] = gr.update(steps=steps) if view.scene is None else gr.update(value=view.scene, steps=steps)
        now = {**view.state, "choices": previous.get("choices"), "gone": previous.get("gone")}
        live, can_stop, can_resume = flags = [now.get(flag, False) for flag in FLAGS]
        if flags == [previous.get(flag) for flag in FLAGS]:
            return [*values, *[gr.skip()] * 4, now]
        buttons = gr.Button(interactive=can_stop), gr.Button(interactive=can_resume), gr.Checkbox(visible=can_resume)
        return [*values, *buttons, gr.Timer(LIVE_SECONDS if live else QUIET_SECONDS), now]

    def choose(choices: list[tuple[str, str]], value: str | None, requested: dict[str, Any]) -> list[Any]:
        dropdown = gr.Dropdown(choices=choices, value=value)
        return [dropdown, requested, *update(value, requested, {"choices": choices})]

    def load(request: gr.Request) -> list[Any]:
        choices, step = studio.run_choices(), request.query_params.get("step", "")
        requested = {"step": int(step), "follow": False} if step.isdecimal() and len(step) < 16 else NEWEST
        name = request.query_params.get("run")
        value = select_by_name(choices, name)
        return choose(choices, value, requested | {"auto": not name or value is None})

    def refresh_list(known: str | None, requested: dict[str, Any]) -> list[Any]:
        choices = studio.run_choices()
        if known in [value for _, value in choices]:
            return choose(choices, known, requested)
        return choose(choices, select_by_name(choices, None), NEWEST)

    def select_run(name: str | None) -> list[Any]:
        return [NEWEST, *update(name, NEWEST, {})]

    def select_step(name: str | None, previous: dict[str, Any], event: gr.EventData) -> list[Any]:
        data = event_data(event)
        step = data.get("step")
        requested = {"step": step if isinstance(step, int) else None, "follow": data.get("follow") is True}
        return [requested, *update(name, requested, previous)]

    def tick(name: str | None, requested: dict[str, Any], previous: dict[str, Any]) -> list[Any]:
        is_early = not name and requested.get("auto") is False  # sent before the run in the page's URL was chosen
        if not previous or is_early:
            return [gr.skip()] * (1 + len(updated))
        if name and previous.get("live"):
            return [gr.skip(), *update(name, requested, previous)]
        choices = studio.run_choices()  # runs may appear and disappear while the page is open
        if name and name not in [value for _, value in choices]:
            dropdown = gr.Dropdown(choices=choices, value=None)
            return [dropdown, *update(name, requested, {"choices": choices, "gone": True})]
        if previous.get("gone") and not name:
            return [gr.skip()] * (1 + len(updated))
        if not name or (requested.get("auto") and studio.is_live(select_by_name(choices, None))):
            name = select_by_name(choices, None)
        is_known = choices == previous.get("choices")
        values = update(name, requested, {**previous, "choices": choices})
        return [gr.skip() if is_known else gr.Dropdown(choices=choices, value=name), *values]

    outputs = [choice, requested, *updated]
    app.load(load, None, outputs, **IMMEDIATE)
    refresh.click(refresh_list, [choice, requested], outputs, **ACTION)
    choice.input(select_run, choice, [requested, *updated], trigger_mode="always_last", **IMMEDIATE)
    for slider in (state.select, lens.step):  # by default Gradio drops the first of two quick events
        slider(select_step, [choice, previous], [requested, *updated], trigger_mode="multiple", **IMMEDIATE)
    timer.tick(tick, [choice, requested, previous], [choice, *updated], **IMMEDIATE)
    stopped = stop.click(lambda name: toast(studio.stop(name)), choice, None, **ACTION)
    resumed = resume.click(lambda *args: toast(studio.resume(*args)), [choice, queue], None, **ACTION)
    for event in (stopped, resumed):
        event.then(update, [choice, requested, previous], updated, **IMMEDIATE)
    return RunViewComponents(choice, button, outputs, lambda name: choose(studio.run_choices(), f"0/{name}", NEWEST))
