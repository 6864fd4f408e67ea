"""The Run page, and the view of one run that the Train page shows too: progress, snapshots, stop and resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.errors import FolderError
from workbench.views.lens.gradio_lens import Lens, Progress
from workbench.views.studio.folders import NO_SNAPSHOT, Studio, asked
from workbench.views.studio.page import LIVE_SECONDS, QUIET, QUIET_SECONDS, data_of, head, say


def run_page(app: gr.Blocks, studio: Studio, start: Callable[[], str] | None) -> None:
    """Lay out the page."""
    head(
        "Run",
        "A large network, the teacher, trains a small one, the distilled student. Choose a training step: the page "
        "compares the distilled student with the plain student, the same network without a teacher, both at that step, "
        "on the validation clip, which neither is trained on.",
    )
    view = follow(app, studio, "run", begin="Start a short run" if start else "")

    def started() -> list[Any]:
        if start is None:
            raise FolderError("this studio is only for looking at runs")
        return view.go_to(start())

    view.begin.click(started, None, view.outputs, **QUIET)


@dataclass(frozen=True)
class Follow:
    """The view of a run, laid out.

    Attributes:
        choice: the dropdown.
        begin: a further button beside it.
        wait: the tick box that lets a resumed run stand in line.
        outputs: what :attr:`go_to` returns values for.
        go_to: name of a run of the user's own -> what the view shows then.
    """

    choice: gr.Dropdown
    begin: gr.Button
    wait: gr.Checkbox
    outputs: list[Any]
    go_to: Callable[[str], list[Any]]


def follow(app: gr.Blocks, studio: Studio, prefix: str, *, begin: str = "") -> Follow:
    """Lay out the view of a run, which follows it while it lives.

    Args:
        app: the pages.
        studio: what they ask.
        prefix: of the components' ids.
        begin: what stands on a further button; there is none where it is empty.
    """
    with gr.Row(elem_classes="pick"):
        choice = gr.Dropdown([], label="Run", elem_id=prefix, scale=6, container=False)
        refresh = gr.Button("Refresh", elem_id=f"{prefix}-refresh", size="sm", scale=0, min_width=96)
        stop = gr.Button(
            "Stop", elem_id=f"{prefix}-stop", variant="stop", size="sm", scale=0, min_width=96, interactive=False
        )
        resume = gr.Button("Resume", elem_id=f"{prefix}-resume", size="sm", scale=0, min_width=96, interactive=False)
        button = gr.Button(begin, elem_id=f"{prefix}-start", size="sm", scale=0, min_width=140, visible=bool(begin))
        wait = gr.Checkbox(
            label="Wait in line", elem_id=f"{prefix}-wait", container=False, scale=0, min_width=130,
            elem_classes="wait",
        )  # fmt: skip
    lead = gr.HTML(js_on_load=None, elem_id=f"{prefix}-lead")
    state = Progress({"message": "Loading …"}, elem_id=f"{prefix}-progress")
    lens = Lens({"message": NO_SNAPSHOT}, elem_id=f"{prefix}-lens")
    with gr.Accordion("Settings of this run", open=False):
        config = gr.HTML(js_on_load=None, elem_id=f"{prefix}-config", elem_classes="run-config")
    timer = gr.Timer(LIVE_SECONDS)
    # `wish` is written only by what the person does, `seen` only by looking: a slow look never undoes a choice. While
    # the person has chosen nothing ("auto"), a run that begins to live is gone to by itself.
    wish, seen = gr.State(_newest()), gr.State({})
    shown = [state, lens, lead, config, stop, resume, timer, seen]

    def look(name: str | None, wish: dict[str, Any], seen: dict[str, Any]) -> list[Any]:
        view = studio.look(name, wish, seen)
        sent = [gr.skip() if part is None else part for part in (view.progress, view.scene, view.lead, view.config)]
        if view.progress is not None:  # the lens has a slider for training steps too
            steps = {"all": view.progress.get("snapshots", []), "at": view.progress.get("step")}
            sent[1] = gr.update(steps=steps) if view.scene is None else gr.update(value=view.scene, steps=steps)
        flags = {"can_stop": view.can_stop, "can_resume": view.can_resume, "live": view.live}
        now = {**view.seen, **flags, "choices": seen.get("choices"), "gone": seen.get("gone")}
        if all(seen.get(flag) == value for flag, value in flags.items()):
            return [*sent, gr.skip(), gr.skip(), gr.skip(), now]
        pace = LIVE_SECONDS if view.live else QUIET_SECONDS
        buttons = gr.Button(interactive=view.can_stop), gr.Button(interactive=view.can_resume)
        return [*sent, *buttons, gr.Timer(pace), now]

    def pick(choices: list[tuple[str, str]], value: str | None, wish: dict[str, Any]) -> list[Any]:
        return [gr.Dropdown(choices=choices, value=value), wish, *look(value, wish, {"choices": choices})]

    def load(request: gr.Request) -> list[Any]:
        choices, step = studio.run_choices(), request.query_params.get("step", "")
        wish = {"step": int(step), "follow": False} if step.isdecimal() and len(step) < 16 else _newest()
        named = request.query_params.get("run")
        value = asked(choices, named)
        return pick(choices, value, wish | {"auto": not named or value is None})

    def again(known: str | None, wish: dict[str, Any]) -> list[Any]:
        choices = studio.run_choices()
        there = known in [value for _, value in choices]
        return pick(choices, known, wish) if there else pick(choices, asked(choices, None), _newest())

    def select(name: str | None, seen: dict[str, Any], event: gr.EventData) -> list[Any]:
        data = data_of(event)
        step = data.get("step")
        wish = {"step": step if isinstance(step, int) else None, "follow": data.get("follow") is True}
        return [wish, *look(name, wish, seen)]

    def tick(name: str | None, wish: dict[str, Any], seen: dict[str, Any]) -> list[Any]:
        late = not name and wish.get("auto") is False  # sent before the page had the run that its address names
        if not seen or late:  # the page is still loading, and what its address asks for comes first
            return [gr.skip()] * (1 + len(shown))
        if name and seen.get("live"):
            return [gr.skip(), *look(name, wish, seen)]
        choices = studio.run_choices()  # a run may begin while the page is open, or go
        if name and name not in [value for _, value in choices]:
            return [gr.Dropdown(choices=choices, value=None), *look(name, wish, {"choices": choices, "gone": True})]
        if seen.get("gone") and not name:
            return [gr.skip()] * (1 + len(shown))
        if not name or (wish.get("auto") and studio.is_live(asked(choices, None))):
            name = asked(choices, None)
        known = choices == seen.get("choices")
        sent = look(name, wish, {**seen, "choices": choices})
        return [gr.skip() if known else gr.Dropdown(choices=choices, value=name), *sent]

    outputs = [choice, wish, *shown]
    app.load(load, None, outputs, **QUIET)
    refresh.click(again, [choice, wish], outputs, **QUIET)
    choice.input(
        lambda name: [_newest(), *look(name, _newest(), {})],
        choice,
        [wish, *shown],
        trigger_mode="always_last",
        **QUIET,
    )
    for chooser in (state.select, lens.step):  # a step, by either slider; by default one of two quick ones is dropped
        chooser(select, [choice, seen], [wish, *shown], trigger_mode="multiple", **QUIET)
    timer.tick(tick, [choice, wish, seen], [choice, *shown], **QUIET)
    stop.click(lambda name: say(studio.stop(name)), choice, None, **QUIET).then(
        look, [choice, wish, seen], shown, **QUIET
    )
    resume.click(lambda name, wait: say(studio.resume(name, wait=wait is True)), [choice, wait], None, **QUIET).then(
        look, [choice, wish, seen], shown, **QUIET
    )
    return Follow(choice, button, wait, outputs, lambda name: pick(studio.run_choices(), f"0/{name}", _newest()))


def _newest() -> dict[str, Any]:
    return {"step": None, "follow": True}
