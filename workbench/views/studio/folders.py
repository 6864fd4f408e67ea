"""Run and scene folders as the pages show them, addressed by the values of a dropdown. No gradio, no torch."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from workbench import runs as run_folders
from workbench.errors import BusyError, FolderError, WorkbenchError
from workbench.pretrained import RUN
from workbench.runs import Run, Status, list_runs
from workbench.scenes import list_scenes, read_scene
from workbench.views import memory_verdict, temporal_share
from workbench.views.lens.payload import payload, select_methods
from workbench.views.progress import MetricsLog, progress, settings
from workbench.views.scene_tables import key_values, mean_by_method, scene_tables, scores_sentence
from workbench.views.serving import SceneFileServer, version_token
from workbench.views.student_losses import run_losses, scene_losses

NO_SCENE = (
    "No scene yet: upscale a video on the page Your video, or run "
    "`workbench compare --clip CLIP --methods bicubic,plain,distilled,teacher`, then refresh."
)
NO_RUN = "No run yet: start one on the page Train, or run `workbench train --preset demo`, then refresh."
NO_SNAPSHOT = "No snapshot yet: the first one is rendered soon after the start."
FIRST_SCENE = "casa_mila"
"""Shipped scene that is shown first: its methods differ visibly without zoom."""
EARLY_SNAPSHOTS = 3
"""Number of snapshots below which a live run refers to the shipped one, which is finished."""
EARLY = (
    "This run has just begun, so the students hardly differ yet. "
    f"<a href='run?run={RUN}'>The shipped run {RUN}</a> is a finished distillation."
)
"""HTML line of a run with few snapshots."""
MAX_LOGS = 16
"""Logs of runs that are kept in memory."""
LOCK_DELAY_SECONDS = 8.0
"""Time that a new worker needs to lock its run; meanwhile the run counts as active."""


@dataclass(frozen=True)
class RunView:
    """Content of the view of one run; ``None``: unchanged.

    Attributes:
        progress: value of the progress component.
        scene: value of the lens.
        lead: HTML, scores of the student, and the collapse index on the training crops and on the clip.
        config: HTML, settings of the run.
        state: argument ``previous`` of the next call, so that only changes are sent; among them ``live``, whether the
            run is queued or running, and ``can_stop`` and ``can_resume``, which are for runs of the user's own.
    """

    progress: dict[str, Any] | None
    scene: dict[str, Any] | None = None
    lead: str | None = None
    config: str | None = None
    state: dict[str, Any] = field(default_factory=dict)


class Studio:
    """Runs and scenes of the pages.

    Args:
        runs: folders of runs; the first is the user's own, the others are read-only.
        scenes: folders of scenes; the first is the user's own.
        results: folder of the results of uploaded videos; None: no uploads.
        owns: function of the name of a result and a browser session: whether the result belongs to the session.
    """

    def __init__(
        self,
        *,
        runs: Sequence[Path],
        scenes: Sequence[Path],
        results: Path | None = None,
        owns: Callable[[str, str], bool] = lambda name, session: True,
    ) -> None:
        self.runs, self.scenes = tuple(Path(root) for root in runs), tuple(Path(root) for root in scenes)
        self.results_index = len(self.scenes) if results is not None else -1
        if results is not None:
            self.scenes = (*self.scenes, results)
        self._owns = owns
        self.files = SceneFileServer(runs=self.runs, scenes=self.scenes, visible=self._is_visible)
        self._logs = lru_cache(MAX_LOGS)(MetricsLog)
        self.starting = threading.Lock()
        self._just_started: dict[str, float] = {}

    # -- scenes

    def _is_visible(self, folder: Path, session: str) -> bool:
        is_result = self.results_index >= 0 and folder.parent == self.scenes[self.results_index]
        return not is_result or self._owns(folder.name, session)

    def _list_scenes(self, index: int, session: str) -> list[str]:
        root, saved = self.scenes[index], set()
        if index == self.results_index:
            saved = {name for one in self.scenes[:index] for name in list_scenes(one)}
        return [name for name in list_scenes(root) if name not in saved and self._is_visible(root / name, session)]

    def scene_choices(self, session: str = "") -> list[tuple[str, str]]:
        """Return titles and values of the scenes for a dropdown, the user's own first."""
        choices = []
        for index, root in enumerate(self.scenes):
            for name in sorted(self._list_scenes(index, session), key=lambda name: name != FIRST_SCENE):
                try:
                    title = read_scene(root / name).title or name
                except FolderError:
                    title = f"{name} (not readable)"
                source = " · your video" if index == self.results_index else " · shipped" if index else ""
                choices.append((title + source, f"{index}/{name}"))
        return choices

    def scene(self, choice: str | None, session: str = "") -> tuple[dict[str, Any], str]:
        """Return the value of the lens and the tables (HTML) of a scene."""
        if not choice:
            return {"message": NO_SCENE}, ""
        try:
            index, name = parse_choice(choice, self.scenes)
            if name not in self._list_scenes(index, session):
                raise FolderError(f"no scene {name!r} here any more; refresh the list")
            scene = read_scene(self.scenes[index] / name)
            tables = {"Temporal share": temporal_share.scene_table(scene)}
            losses = scene_losses(scene, self.runs)
            return payload(scene, self.files.url, link={"scene": name}, losses=losses), scene_tables(scene, tables)
        except WorkbenchError as error:
            return {"message": str(error)}, ""

    # -- runs

    def run_choices(self) -> list[tuple[str, str]]:
        """Return labels and values of the runs for a dropdown.

        Order: live runs, then the user's, then the shipped ones with distillations first; each group from the newest.
        """
        found = []
        for choice, run, config, status in self.all_runs():
            state, live, plain = "not readable", False, not _has_teacher(config)
            if isinstance(status, Status):
                state, live = status.state, status.live
            shipped = not _is_own(choice)
            name = f"{run.name.replace('_', ' ')}, without a teacher" if shipped and plain else run.name
            found.append(
                ((not live, shipped, shipped and plain), (f"{name} · {state}{' · shipped' * shipped}", choice))
            )
        return [entry for _, entry in sorted(found, key=lambda one: one[0])]

    def all_runs(self) -> Iterator[tuple[str, Run, Mapping[str, Any], Status | WorkbenchError]]:
        """Yield the dropdown value, settings and status of every run, the newest first.

        An unreadable run has no settings, and the error in place of the status.
        """
        for index, root in enumerate(self.runs):
            for name in list_runs(root):
                run = Run(root / name)
                try:
                    config, status = settings(run), run.status()
                except WorkbenchError as error:
                    config, status = {}, error
                yield f"{index}/{name}", run, config, status

    def run(self, choice: Any) -> Run:
        """Return the run of a dropdown value.

        Raises:
            FolderError: no such run.
        """
        index, name = parse_choice(choice, self.runs)
        if name not in list_runs(self.runs[index]):
            raise FolderError(f"no run {name!r} here any more; refresh the list")
        return Run(self.runs[index] / name)

    def is_live(self, choice: str | None) -> bool:
        """Return whether a run is queued or running."""
        try:
            return bool(choice) and self.run(choice).status().live
        except WorkbenchError:
            return False

    def view_run(self, choice: str | None, requested: Mapping[str, Any], previous: Mapping[str, Any]) -> RunView:
        """Return the current view of a run.

        Args:
            choice: value of the dropdown.
            requested: ``{"step": ..., "follow": ...}``: requested snapshot, and whether to show the newest instead.
            previous: ``RunView.state`` of the previous call; unchanged parts are left out.
        """
        if not choice:
            return RunView({"message": NO_RUN}, {"message": NO_SNAPSHOT}, "", "")
        is_new = previous.get("run") != choice
        try:
            run = self.run(choice)
            config = settings(run)  # first: nothing else can be read without the settings
            status = run.status()
            log = self.log(run)
            steps = run.snapshots()
            step = _snapshot_step(steps, requested)
            state = progress(run, log, status, step=step, follow=bool(requested.get("follow")))
            on_crops = memory_verdict.recent(log.diagnostics.get("collapse_index", ()))
        except WorkbenchError as error:
            message = {"message": f"This run cannot be shown: {error}"}
            return RunView(message, {"message": NO_SNAPSHOT}, "", "")
        link = {"run": run.name} if step is None or requested.get("follow") else {"run": run.name, "step": str(step)}
        value, snapshot = self.snapshot(run, step, link, previous if not is_new else {})
        on_clip = previous.get("on_clip", {}) if value is None else _clip_scores(value)
        distilled = _has_teacher(config)
        standing = scores_sentence(step or 0, on_clip.get("psnr_db", {}), distilled=distilled)
        lines = [f"<b>{escape(standing)}</b> <small>PSNR-Y, mean over the validation clip</small>"] if standing else []
        is_early = status.live and distilled and len(steps) < EARLY_SNAPSHOTS
        if is_early and any(RUN in list_runs(root) for root in self.runs[1:]):
            lines.append(EARLY)
        lead = _lead(lines, {memory_verdict.CROPS: on_crops, memory_verdict.CLIP: on_clip.get("index")})
        now = {
            "run": choice, "progress": state, "lead": lead, "snapshot": snapshot, "on_clip": on_clip,
            "live": status.live, "can_resume": _is_own(choice) and status.resumable,
            "can_stop": _is_own(choice) and status.state == "running" and not (run.folder / "stop").exists(),
        }  # fmt: skip
        return RunView(
            state if state != previous.get("progress") else None,
            value,
            lead if is_new or lead != previous.get("lead") else None,
            key_values(config) if is_new else None,
            now,
        )

    def stop(self, choice: str | None) -> str:
        """Request that a run of the user's own stops; return a message."""
        run = self._own_run(choice)
        run_folders.request_stop(run)
        return f"{run.name}: stops after this step; it can be resumed."

    def resume(self, choice: str | None, queue: Any = False) -> str:
        """Resume a run of the user's own; return a message.

        Args:
            choice: value of the dropdown.
            queue: wait for active runs to finish instead of raising an error.
        """
        run = self._own_run(choice)
        with self.starting:
            self.start(run, queue=queue is True)
        return f"{run.name}: {'is queued and ' if queue is True else ''}resumes from its last checkpoint."

    def active_runs(self) -> list[str]:
        """Return the names of the user's own runs that are queued or running."""
        names = [name for name, when in self._just_started.items() if time.monotonic() - when < LOCK_DELAY_SECONDS]
        own = [(run.name, status) for choice, run, _, status in self.all_runs() if _is_own(choice)]
        return names + [n for n, status in own if n not in names and isinstance(status, Status) and status.live]

    def check_idle(self) -> None:
        """Check that no run is active.

        Raises:
            BusyError: a run is active.
        """
        if names := self.active_runs():
            raise BusyError(
                f"{names[0]} is training on this machine, and two runs at once are both slow; stop it, or select Queue"
            )

    def start(self, run: Run, *, queue: bool = False) -> None:
        """Start the worker of a run.

        Raises:
            BusyError: another run is active and ``queue`` is off, or the run has a worker already.
        """
        if not queue and run.name not in self.active_runs():
            self.check_idle()
        run_folders.start_worker(run, queue=queue)
        self._just_started = {run.name: time.monotonic()}

    def _own_run(self, choice: str | None) -> Run:
        if not isinstance(choice, str) or not _is_own(choice):
            raise FolderError("this run is read-only; only your own runs can be stopped and resumed")
        return self.run(choice)

    def log(self, run: Run) -> MetricsLog:
        """Return the log of a run, read up to its current end."""
        return self._logs(run.folder / "metrics.jsonl").read()

    def snapshot(
        self, run: Run, step: int | None, link: Mapping[str, str], previous: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, str]:
        """Return the value of the lens, None where it is unchanged, and an identifier of the snapshot.

        Args:
            run: the run.
            step: step of a snapshot; None: only the validation clip.
            link: parameters for the URL of the page; empty: the lens does not change the URL.
            previous: ``{"snapshot": previous identifier}``.
        """
        clip, known = run.validation_folder, previous.get("snapshot")
        identifier, value = "none", {"message": NO_SNAPSHOT}
        try:
            if step is not None or (clip / "scene.json").is_file():
                home = clip if step is None else run.snapshot_folder(step)
                identifier = f"{step} {'step' in link} {version_token(clip)} {version_token(home)}"
                if identifier != known:
                    scene = run.validation_clip() if step is None else run.snapshot(step)
                    keys = sorted((m.key for m in scene.methods), key=lambda key: key == "teacher")  # as on Compare
                    scene = select_methods(scene, keys)
                    losses = run_losses(run) if step is not None else ""
                    value = payload(scene, self.files.url, link=link, losses=losses)
        except WorkbenchError as error:
            identifier, value = f"broken {step} {error}", {"message": f"Step {step} cannot be shown: {error}"}
        return None if identifier == known else value, identifier


def _clip_scores(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean PSNR-Y by method, and the collapse index, from the value of a lens."""
    series = next((curve["series"] for curve in value.get("curves", ()) if curve["key"] == "psnr_y_db"), {})
    return {"psnr_db": mean_by_method(series), "index": value.get("memory", {}).get("index")}


def _has_teacher(config: Mapping[str, Any]) -> bool:
    teacher = config.get("teacher")
    return isinstance(teacher, Mapping) and bool(teacher.get("name"))


def _is_own(choice: str) -> bool:
    """Return whether a run is in the user's own folder, the first; the others are read-only."""
    return choice.startswith("0/")


def _lead(lines: Sequence[str], measured: Mapping[str, float | None]) -> str:
    """Return lines of HTML on the run, and, folded, a sentence on the memory with the measured numbers."""
    html = "".join(f"<p>{line}</p>" for line in lines)
    if verdict := escape(memory_verdict.sentence(measured)):
        numbers = escape(memory_verdict.numbers(measured))
        html += f"<details><summary>Memory cells</summary><p>{verdict} <small>{numbers}</small></p></details>"
    return f"<div class='lead'>{html}</div>" if html else ""


def parse_choice(choice: Any, roots: Sequence[Path]) -> tuple[int, str]:
    """Return index of the root and name of ``"0/name"``.

    Raises:
        FolderError: any other value.
    """
    index, _, name = choice.partition("/") if isinstance(choice, str) else ("", "", "")
    if not re.fullmatch(r"[0-9]{1,3}", index) or int(index) >= len(roots) or not name:
        raise FolderError(f"choice: want ROOT/NAME from the list, got {str(choice)[:80]!r}; refresh the list")
    return int(index), name


def _snapshot_step(steps: Sequence[int], requested: Mapping[str, Any]) -> int | None:
    """Return the snapshot nearest to the requested step; the newest without a request, or while following."""
    step = requested.get("step")
    if not steps:
        return None
    if requested.get("follow") or not isinstance(step, int | float) or not math.isfinite(step):
        return steps[-1]
    return min(steps, key=lambda one: abs(one - step))


def select_by_name(choices: Sequence[tuple[str, str]], name: str | None) -> str | None:
    """Return the choice with the name in the page's URL (``?run=NAME``), else the first."""
    values = [value for _, value in choices]
    return next((value for value in values if name and value.partition("/")[2] == name), values[0] if values else None)
