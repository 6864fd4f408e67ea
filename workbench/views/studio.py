"""The studio: two pages in the browser, over run and scene folders. Compare a scene; watch a run.

The handlers are methods of :class:`Studio`, plain functions of names; :func:`build_studio` ties them to components, and
:func:`launch` serves the pages together with the pictures of :class:`~workbench.views.serving.Gallery`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is looked up outside

import gradio as gr
from gradio.components.navbar import Navbar
from gradio.themes import Base

from workbench import runs as run_folders
from workbench.errors import ConfigError, FolderError, WorkbenchError
from workbench.runs import Run, list_runs
from workbench.scenes import Scene, list_scenes, read_scene
from workbench.views import facts
from workbench.views.lens.gradio_lens import Lens, Progress
from workbench.views.lens.payload import payload
from workbench.views.progress import Tail, memory_words, progress, settings
from workbench.views.serving import Gallery, token

NO_SCENE = "No scene yet: run `workbench compare --clip CLIP --methods bicubic,plain,distilled,teacher`, then refresh."
NO_RUN = "No run yet: run `workbench train --preset demo`, then refresh."
NO_SNAPSHOT = "No snapshot yet: the first look at the probe clip comes soon after the start."
LIVE_SECONDS, QUIET_SECONDS = 1.0, 5.0
TAILS_KEPT = 16


@dataclass(frozen=True)
class RunView:
    """What the Run page shows of one run; ``None``: as it was.

    Attributes:
        progress: for the progress component.
        scene: for the lens.
        memory: HTML, what the collapse index says.
        config: HTML, the settings.
        live: whether more is to be expected.
        can_stop: there is a worker to be stopped, and the run is the user's own.
        can_resume: it can go on from where it was, and the run is the user's own.
        seen: to be handed in next time, so that only what changed is sent.
    """

    progress: dict[str, Any] | None
    scene: dict[str, Any] | None = None
    memory: str | None = None
    config: str | None = None
    live: bool = False
    can_stop: bool = False
    can_resume: bool = False
    seen: dict[str, Any] = field(default_factory=dict)


class Studio:
    """What the pages ask for.

    Args:
        runs: folders that hold runs; the first is the user's own, the others are only looked at.
        scenes: folders that hold scenes; likewise.
    """

    def __init__(self, *, runs: Sequence[Path], scenes: Sequence[Path]) -> None:
        self.runs, self.scenes = tuple(Path(root) for root in runs), tuple(Path(root) for root in scenes)
        self.gallery = Gallery(runs=self.runs, scenes=self.scenes)
        self._tails: dict[Path, Tail] = {}

    # -- Compare

    def scene_choices(self) -> list[tuple[str, str]]:
        """Titles and values of the scenes there are, for a dropdown; one that cannot be read says so when chosen."""
        choices = []
        for index, root in enumerate(self.scenes):
            for name in list_scenes(root):
                try:
                    title = read_scene(root / name).title or name
                except FolderError:
                    title = f"{name} (not readable)"
                choices.append((title + (" · shipped" if index else ""), f"{index}/{name}"))
        return choices

    def scene(self, choice: str | None) -> tuple[dict[str, Any], str]:
        """The lens's value and the facts (HTML) of a scene."""
        if not choice:
            return {"message": NO_SCENE}, ""
        try:
            index, name = _split(choice, self.scenes)
            if name not in list_scenes(self.scenes[index]):
                raise FolderError(f"no scene {name!r} here any more; refresh the list")
            scene = read_scene(self.scenes[index] / name)
            return payload(scene, self.gallery.address), facts.scene_facts(scene)
        except WorkbenchError as error:
            return {"message": str(error)}, ""

    # -- Run

    def run_choices(self) -> list[tuple[str, str]]:
        """Names and values of the runs there are: live ones first, then the newest."""
        found = []
        for index, root in enumerate(self.runs):
            for name in list_runs(root):
                try:
                    settings(Run(root / name))
                    status = Run(root / name).status()
                    state, live = status.state, status.live
                except WorkbenchError:
                    state, live = "not readable", False
                note = " · ".join([state, *(["shipped"] if index else [])])
                found.append((not live, index, (f"{name} · {note}", f"{index}/{name}")))
        return [choice for _, _, choice in sorted(found, key=lambda entry: entry[:2])]

    def run(self, choice: str) -> Run:
        """The run that a dropdown's value names.

        Raises:
            FolderError: there is none.
        """
        index, name = _split(choice, self.runs)
        if name not in list_runs(self.runs[index]):
            raise FolderError(f"no run {name!r} here any more; refresh the list")
        return Run(self.runs[index] / name)

    def is_live(self, choice: str | None) -> bool:
        """Whether a run is waiting or running."""
        try:
            return bool(choice) and self.run(str(choice)).status().live
        except WorkbenchError:
            return False

    def look(self, choice: str | None, wish: Mapping[str, Any], seen: Mapping[str, Any]) -> RunView:
        """What the Run page shows now.

        Args:
            choice: the dropdown's value.
            wish: ``{"step": ..., "follow": ...}``: the snapshot asked for, and whether to go to the newest instead.
            seen: ``RunView.seen`` of the last look; what has not changed since is left out.
        """
        if not choice:
            return RunView({"message": NO_RUN}, {"message": NO_SNAPSHOT}, "", "")
        fresh = seen.get("run") != choice
        try:
            run = self.run(choice)
            config = settings(run)  # first: without settings the rest cannot be read
            status = run.status()
            tail = self._tail(run)
            steps = run.snapshots()
            step = _step(steps, wish)
            state = progress(run, tail, status, step=step, follow=bool(wish.get("follow")))
            memory = memory_words(tail.latest)
        except WorkbenchError as error:
            message = {"message": f"This run cannot be shown: {error}"}
            return RunView(message, {"message": NO_SNAPSHOT}, "", "", seen={})
        value, shown = self._snapshot(run, step, seen if not fresh else {})
        own = choice.startswith("0/")
        return RunView(
            state if state != seen.get("progress") else None,
            value,
            (f"<p class='memory'>{escape(memory)}</p>" if memory else "") if memory != seen.get("memory") else None,
            facts.key_values(config) if fresh else None,
            live=status.live,
            can_stop=own and status.state == "running" and not (run.folder / "stop").exists(),
            can_resume=own and status.resumable,
            seen={"run": choice, "progress": state, "memory": memory, "snapshot": shown},
        )

    def stop(self, choice: str | None) -> str:
        """Ask a run of the user's own to stop; returns what to tell."""
        run = self._own(choice)
        run_folders.request_stop(run)
        return f"{run.name}: stopping after this step; it can be resumed."

    def resume(self, choice: str | None) -> str:
        """Let a run of the user's own go on; returns what to tell."""
        run = self._own(choice)
        run_folders.start_worker(run)
        return f"{run.name}: goes on from its last saved step."

    def _own(self, choice: str | None) -> Run:
        if not choice or not choice.startswith("0/"):
            raise FolderError("this run is only to be looked at; runs of your own can be stopped and resumed")
        return self.run(choice)

    def _tail(self, run: Run) -> Tail:
        path = run.folder / "metrics.jsonl"
        tail = self._tails.pop(path, None) or Tail(path)
        self._tails[path] = tail  # the one used last is last
        while len(self._tails) > TAILS_KEPT:
            self._tails.pop(next(iter(self._tails)))
        return tail.read()

    def _snapshot(self, run: Run, step: int | None, seen: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
        """The lens's value if it differs from what was seen, and what identifies it."""
        probe = run.folder / "probe"
        try:
            if step is None:
                if not (probe / "scene.json").is_file():
                    return (None if seen.get("snapshot") == "none" else {"message": NO_SNAPSHOT}), "none"
                scene, mark = read_scene(probe), token(probe)
            else:
                home = run.folder / "snapshots" / f"{step:07d}"
                mark = f"{step} {token(probe)} {token(home)}"
                if mark == seen.get("snapshot"):
                    return None, mark
                scene = run.snapshot(step)
            return (None, mark) if mark == seen.get("snapshot") else (self._draw(scene), mark)
        except WorkbenchError as error:
            mark = f"broken {step} {error}"
            message = {"message": f"Step {step} cannot be shown: {error}"}
            return (None if seen.get("snapshot") == mark else message), mark

    def _draw(self, scene: Scene) -> dict[str, Any]:
        return payload(scene, self.gallery.address)


def _split(choice: str, roots: Sequence[Path]) -> tuple[int, str]:
    """``"0/name"`` -> root and name; whatever else the browser may send is refused."""
    index, _, name = str(choice).partition("/")
    if not index.isdecimal() or int(index) >= len(roots) or not name:
        raise FolderError(f"{choice!r} is none of the folders on show")
    return int(index), name


def _step(steps: Sequence[int], wish: Mapping[str, Any]) -> int | None:
    """The snapshot to show: the newest if that is followed or nothing was asked for, else the nearest to the wish."""
    wanted = wish.get("step")
    if not steps:
        return None
    if wish.get("follow") or not isinstance(wanted, int | float):
        return steps[-1]
    return min(steps, key=lambda step: abs(step - wanted))


def build_studio(*, runs: Sequence[Path], scenes: Sequence[Path], start: Callable[[], str] | None = None) -> gr.Blocks:
    """The pages, not yet served.

    Args:
        runs: folders that hold runs; the first is the user's own, the others (shipped ones) are only looked at.
        scenes: folders that hold scenes; likewise.
        start: starts a short run in the user's own folder and returns its name; a button for it is on the Run page.

    Returns:
        The Blocks; serve them with :func:`launch`, which also serves the pictures.
    """
    studio = Studio(runs=runs, scenes=scenes)
    with gr.Blocks(title="Workbench", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as app:
        Navbar(main_page_name="Compare")
        _compare_page(app, studio)
    with app.route("Run", "/run"):
        Navbar(main_page_name="Compare")
        _run_page(app, studio, start)
    app.studio = studio  # pyright: ignore[reportAttributeAccessIssue]
    return app


# Gradio confines the style sheet to what lies inside the margins that this narrows.
NARROW = (
    "<style>@media (max-width: 640px) { .gradio-container .main.fillable { padding: 8px 12px !important; } }</style>"
)
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def _compare_page(app: gr.Blocks, studio: Studio) -> None:
    gr.HTML(
        "<h1>Compare</h1><p>One clip as several networks enlarge it, frame by frame in step: "
        "what is sharper, what flickers, and by how much.</p>",
        js_on_load=None,
        elem_classes="page-head",
    )
    with gr.Row(elem_classes="pick"):
        choice = gr.Dropdown([], label="Scene", elem_id="scene", scale=6, container=False)
        refresh = gr.Button("Refresh", elem_id="scene-refresh", size="sm", scale=0, min_width=96)
    lens = Lens({"message": "Loading …"}, elem_id="compare-lens")
    about = gr.HTML(js_on_load=None, elem_id="scene-facts")

    def load(request: gr.Request) -> tuple[Any, dict[str, Any], str]:
        choices = studio.scene_choices()
        value = _asked(choices, request.query_params.get("scene"))
        return gr.Dropdown(choices=choices, value=value), *studio.scene(value)

    def again(known: str | None) -> tuple[Any, dict[str, Any], str]:
        choices = studio.scene_choices()
        value = known if known in [value for _, value in choices] else _asked(choices, None)
        return gr.Dropdown(choices=choices, value=value), *studio.scene(value)

    app.load(load, None, [choice, lens, about], **QUIET)
    refresh.click(again, choice, [choice, lens, about], **QUIET)
    choice.input(studio.scene, choice, [lens, about], trigger_mode="always_last", **QUIET)


def _run_page(app: gr.Blocks, studio: Studio, start: Callable[[], str] | None) -> None:
    gr.HTML(
        "<h1>Run</h1><p>A teacher shows a small student not only its pictures, but where it looks and what it "
        "remembers. Choose a training step, and see what the student has learnt by then, on a clip kept for that.</p>",
        js_on_load=None,
        elem_classes="page-head",
    )
    with gr.Row(elem_classes="pick"):
        choice = gr.Dropdown([], label="Run", elem_id="run", scale=6, container=False)
        refresh = gr.Button("Refresh", elem_id="run-refresh", size="sm", scale=0, min_width=96)
        stop = gr.Button(
            "Stop", elem_id="run-stop", variant="stop", size="sm", scale=0, min_width=96, interactive=False
        )
        resume = gr.Button("Resume", elem_id="run-resume", size="sm", scale=0, min_width=96, interactive=False)
        begin = gr.Button(
            "Start a short run", elem_id="run-start", size="sm", scale=0, min_width=140, visible=start is not None
        )
    state = Progress({"message": "Loading …"}, elem_id="run-progress")
    memory = gr.HTML(js_on_load=None, elem_id="run-memory")
    lens = Lens({"message": NO_SNAPSHOT}, elem_id="run-lens")
    with gr.Accordion("Settings of this run", open=False):
        config = gr.HTML(js_on_load=None, elem_id="run-config")
    timer = gr.Timer(LIVE_SECONDS)
    # `wish` is written only by what the person does, `seen` only by looking: a slow look never undoes a choice. While
    # the person has chosen nothing ("auto"), a run that begins to live is gone to by itself.
    wish, seen = gr.State(_newest()), gr.State({})
    shown = [state, lens, memory, config, stop, resume, timer, seen]

    def look(name: str | None, wish: dict[str, Any], seen: dict[str, Any]) -> list[Any]:
        view = studio.look(name, wish, seen)
        sent = [gr.skip() if part is None else part for part in (view.progress, view.scene, view.memory, view.config)]
        flags = {"can_stop": view.can_stop, "can_resume": view.can_resume, "live": view.live}
        now = {**view.seen, **flags, "choices": seen.get("choices")}
        if all(seen.get(flag) == value for flag, value in flags.items()):
            return [*sent, gr.skip(), gr.skip(), gr.skip(), now]
        pace = LIVE_SECONDS if view.live else QUIET_SECONDS
        buttons = gr.Button(interactive=view.can_stop), gr.Button(interactive=view.can_resume)
        return [*sent, *buttons, gr.Timer(pace), now]

    def pick(choices: list[tuple[str, str]], value: str | None, wish: dict[str, Any]) -> list[Any]:
        return [gr.Dropdown(choices=choices, value=value), wish, *look(value, wish, {"choices": choices})]

    def load(request: gr.Request) -> list[Any]:
        choices, asked = studio.run_choices(), request.query_params.get("step", "")
        wish = {"step": int(asked), "follow": False} if asked.isdecimal() else _newest()
        named = request.query_params.get("run")
        return pick(choices, _asked(choices, named), wish | {"auto": not named})

    def again(known: str | None, wish: dict[str, Any]) -> list[Any]:
        choices = studio.run_choices()
        there = known in [value for _, value in choices]
        return pick(choices, known, wish) if there else pick(choices, _asked(choices, None), _newest())

    def select(name: str | None, seen: dict[str, Any], event: gr.EventData) -> list[Any]:
        data = event._data if isinstance(event._data, dict) else {}
        step = data.get("step")
        wish = {"step": step if isinstance(step, int) else None, "follow": data.get("follow") is True}
        return [wish, *look(name, wish, seen)]

    def tick(name: str | None, wish: dict[str, Any], seen: dict[str, Any]) -> list[Any]:
        if name and seen.get("live"):
            return [gr.skip(), *look(name, wish, seen)]
        choices = studio.run_choices()  # a run may begin while the page is open
        if not name or (wish.get("auto") and studio.is_live(_asked(choices, None))):
            name = _asked(choices, None)
        known = choices == seen.get("choices")
        sent = look(name, wish, {**seen, "choices": choices})
        return [gr.skip() if known else gr.Dropdown(choices=choices, value=name), *sent]

    def act(what: Callable[[str | None], str], name: str | None) -> None:
        try:
            gr.Info(what(name))
        except WorkbenchError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def started() -> list[Any]:
        try:
            name = start() if start else ""
        except WorkbenchError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return pick(studio.run_choices(), f"0/{name}", _newest())

    app.load(load, None, [choice, wish, *shown], **QUIET)
    refresh.click(again, [choice, wish], [choice, wish, *shown], **QUIET)
    choice.input(
        lambda name: [_newest(), *look(name, _newest(), {})],
        choice,
        [wish, *shown],
        trigger_mode="always_last",
        **QUIET,
    )
    state.select(select, [choice, seen], [wish, *shown], trigger_mode="multiple", **QUIET)  # by default one is dropped
    timer.tick(tick, [choice, wish, seen], [choice, *shown], **QUIET)
    stop.click(lambda name: act(studio.stop, name), choice, None, **QUIET).then(
        look, [choice, wish, seen], shown, **QUIET
    )
    resume.click(lambda name: act(studio.resume, name), choice, None, **QUIET).then(
        look, [choice, wish, seen], shown, **QUIET
    )
    begin.click(started, None, [choice, wish, *shown], **QUIET)


def _newest() -> dict[str, Any]:
    return {"step": None, "follow": True}


def _asked(choices: Sequence[tuple[str, str]], name: str | None) -> str | None:
    """The choice that an address asks for by name (``?run=NAME``), else the first."""
    values = [value for _, value in choices]
    return next((value for value in values if name and value.partition("/")[2] == name), values[0] if values else None)


def launch(
    *,
    runs: Sequence[Path],
    scenes: Sequence[Path],
    start: Callable[[], str] | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: tuple[str, str] | None = None,
    inbrowser: bool = False,
    quiet: bool = False,
    wait: bool = True,
) -> tuple[gr.Blocks, str]:
    """Serve the studio.

    Args:
        runs: folders that hold runs, the user's own first.
        scenes: folders that hold scenes, the user's own first.
        start: see :func:`build_studio`.
        host: who may connect; only this computer unless said otherwise.
        port: None: the first free one from 7860 on.
        auth: user and password, asked for before anything is shown; needed where other computers can connect.
        inbrowser: open a browser.
        quiet: do not print the address.
        wait: return only when the server is stopped (Ctrl-C).

    Returns:
        The Blocks (``close()`` stops the server) and the address.

    Raises:
        ConfigError: other computers could connect, and there is no password.
        OSError: the port is taken.
    """
    if host not in ("127.0.0.1", "localhost", "::1") and auth is None:
        raise ConfigError(f"host {host}: other computers could stop your runs; give a user and a password too")
    app = build_studio(runs=runs, scenes=scenes, start=start)
    studio: Studio = app.studio  # pyright: ignore[reportAttributeAccessIssue]
    _, url, _ = app.launch(
        server_name=host,
        server_port=port,
        auth=auth,
        inbrowser=inbrowser,
        quiet=quiet,
        prevent_thread_lock=True,
        share=False,
        run_history=False,
        footer_links=["settings"],
        max_file_size="1mb",  # nothing is uploaded here
        app_kwargs={"routes": [studio.gallery.route()]},
        theme=Base(primary_hue="blue", neutral_hue="slate"),
        head=NARROW,
        css_paths=Path(__file__).parent / "lens" / "studio.css",
    )
    if wait:
        app.block_thread()
    return app, url
