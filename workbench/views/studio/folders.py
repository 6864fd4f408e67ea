"""What the Compare and Run pages ask for: scene and run folders by the values of a dropdown. No gradio, no torch."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from workbench import runs as run_folders
from workbench.errors import BusyError, FolderError, WorkbenchError
from workbench.runs import Run, list_runs
from workbench.scenes import list_scenes, read_scene
from workbench.views import facts, memory, temporal_share
from workbench.views.lens.payload import payload
from workbench.views.progress import Tail, progress, settings
from workbench.views.serving import Gallery, token

NO_SCENE = (
    "No scene yet: enlarge a clip of your own on the page Your video, or run "
    "`workbench compare --clip CLIP --methods bicubic,plain,distilled,teacher`, then refresh."
)
NO_RUN = "No run yet: start one on the page Train, or run `workbench train --preset demo`, then refresh."
NO_SNAPSHOT = "No snapshot yet: the first look at the probe clip comes soon after the start."
TAILS_KEPT = 16
SECONDS_TO_LOCK = 8.0
"""A worker that was just started has not locked its run yet, and counts as being at work."""


@dataclass(frozen=True)
class RunView:
    """What the Run page shows of one run; ``None``: as it was.

    Attributes:
        progress: for the progress component.
        scene: for the lens.
        lead: HTML, where the student stands, and what the collapse index says on the training crops and on the clip.
        config: HTML, the settings.
        live: whether more is to be expected.
        can_stop: there is a worker to be stopped, and the run is the user's own.
        can_resume: it can go on from where it was, and the run is the user's own.
        seen: to be handed in next time, so that only what changed is sent.
    """

    progress: dict[str, Any] | None
    scene: dict[str, Any] | None = None
    lead: str | None = None
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
        own: a folder of the studio's own for scenes made of videos that people brought; None: there is none.
        owns: whether a scene of that folder is a user's.

    Users are names that somebody logged in with; the empty one is everybody, where nobody logs in.
    """

    def __init__(
        self,
        *,
        runs: Sequence[Path],
        scenes: Sequence[Path],
        own: Path | None = None,
        owns: Callable[[str, str], bool] = lambda name, user: True,
    ) -> None:
        self.runs, self.scenes = tuple(Path(root) for root in runs), tuple(Path(root) for root in scenes)
        self.own = len(self.scenes) if own is not None else -1
        if own is not None:
            self.scenes = (*self.scenes, own)
        self._owns = owns
        self.gallery = Gallery(runs=self.runs, scenes=self.scenes, visible=self._visible)
        self._tails: dict[Path, Tail] = {}
        self.starting = threading.Lock()
        self._begun: dict[str, float] = {}

    # -- Compare

    def _visible(self, folder: Path, user: str) -> bool:
        return self.own < 0 or folder.parent != self.scenes[self.own] or self._owns(folder.name, user)

    def _scenes(self, index: int, user: str) -> list[str]:
        root = self.scenes[index]
        kept = {name for one in self.scenes[:index] for name in list_scenes(one)} if index == self.own else ()
        return [name for name in list_scenes(root) if name not in kept and self._visible(root / name, user)]

    def scene_choices(self, user: str = "") -> list[tuple[str, str]]:
        """Titles and values of the scenes there are, for a dropdown; one that cannot be read says so when chosen."""
        choices = []
        for index, root in enumerate(self.scenes):
            for name in self._scenes(index, user):
                try:
                    title = read_scene(root / name).title or name
                except FolderError:
                    title = f"{name} (not readable)"
                whose = " · your video" if index == self.own else " · shipped" if index else ""
                choices.append((title + whose, f"{index}/{name}"))
        return choices

    def scene(self, choice: str | None, user: str = "") -> tuple[dict[str, Any], str]:
        """The lens's value and the facts (HTML) of a scene."""
        if not choice:
            return {"message": NO_SCENE}, ""
        try:
            index, name = split(choice, self.scenes)
            if name not in self._scenes(index, user):
                raise FolderError(f"no scene {name!r} here any more; refresh the list")
            scene = read_scene(self.scenes[index] / name)
            tables = {"Temporal share": temporal_share.scene_table(scene)}
            return payload(scene, self.gallery.address, link={"scene": name}), facts.scene_facts(scene, tables)
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

    def run(self, choice: Any) -> Run:
        """The run that a dropdown's value names.

        Raises:
            FolderError: there is none.
        """
        index, name = split(choice, self.runs)
        if name not in list_runs(self.runs[index]):
            raise FolderError(f"no run {name!r} here any more; refresh the list")
        return Run(self.runs[index] / name)

    def is_live(self, choice: str | None) -> bool:
        """Whether a run is waiting or running."""
        try:
            return bool(choice) and self.run(choice).status().live
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
            tail = self.tail(run)
            steps = run.snapshots()
            step = _step(steps, wish)
            state = progress(run, tail, status, step=step, follow=bool(wish.get("follow")))
            on_crops = memory.recent(tail.measures.get("collapse_index", ()))
        except WorkbenchError as error:
            message = {"message": f"This run cannot be shown: {error}"}
            return RunView(message, {"message": NO_SNAPSHOT}, "", "", seen={})
        link = {"run": run.name} if step is None or wish.get("follow") else {"run": run.name, "step": str(step)}
        value, shown = self.snapshot(run, step, link, seen if not fresh else {})
        on_clip = seen.get("on_clip", {}) if value is None else _on_clip(value)
        teacher = config.get("teacher")
        standing = facts.standing(
            step or 0, on_clip.get("psnr_db", {}), taught=isinstance(teacher, Mapping) and bool(teacher.get("name"))
        )
        lead = _lead(standing, {memory.CROPS: on_crops, memory.CLIP: on_clip.get("index")})
        own = choice.startswith("0/")
        return RunView(
            state if state != seen.get("progress") else None,
            value,
            lead if fresh or lead != seen.get("lead") else None,
            facts.key_values(config) if fresh else None,
            live=status.live,
            can_stop=own and status.state == "running" and not (run.folder / "stop").exists(),
            can_resume=own and status.resumable,
            seen={"run": choice, "progress": state, "lead": lead, "snapshot": shown, "on_clip": on_clip},
        )

    def stop(self, choice: str | None) -> str:
        """Ask a run of the user's own to stop; returns what to tell."""
        run = self._own(choice)
        run_folders.request_stop(run)
        return f"{run.name}: stopping after this step; it can be resumed."

    def resume(self, choice: str | None, *, wait: bool = False) -> str:
        """Let a run of the user's own go on; returns what to tell.

        Args:
            choice: the dropdown's value.
            wait: stand in line behind what trains already, instead of being refused.
        """
        run = self._own(choice)
        with self.starting:
            self.start(run, wait=wait)
        return f"{run.name}: goes on from its last saved step" + (", when its turn comes." if wait else ".")

    def at_work(self) -> list[str]:
        """Names of the user's own runs that train or wait to."""
        names = [name for name, when in self._begun.items() if time.monotonic() - when < SECONDS_TO_LOCK]
        for name in list_runs(self.runs[0]):
            if name in names:
                continue
            try:
                if Run(self.runs[0] / name).status().live:
                    names.append(name)
            except WorkbenchError:
                continue
        return names

    def check_free(self) -> None:
        """Make sure that nothing trains on this machine.

        Raises:
            BusyError: something does.
        """
        if names := self.at_work():
            raise BusyError(
                f"{names[0]} is training on this machine, and two at once would both be slow; stop it, or tick "
                "'wait in line'"
            )

    def start(self, run: Run, *, wait: bool = False) -> None:
        """Start the worker of a run that is laid out, alone or in line.

        Raises:
            BusyError: something trains here and the run shall not wait, or it has a worker already.
        """
        if not wait and run.name not in self.at_work():
            self.check_free()
        run_folders.start_worker(run, queue=wait)
        self._begun = {run.name: time.monotonic()}

    def _own(self, choice: str | None) -> Run:
        if not isinstance(choice, str) or not choice.startswith("0/"):
            raise FolderError("this run is only to be looked at; runs of your own can be stopped and resumed")
        return self.run(choice)

    def tail(self, run: Run) -> Tail:
        """The log of a run, as far as it is written."""
        path = run.folder / "metrics.jsonl"
        tail = self._tails.pop(path, None) or Tail(path)
        self._tails[path] = tail  # the one used last is last
        while len(self._tails) > TAILS_KEPT:
            self._tails.pop(next(iter(self._tails)))
        return tail.read()

    def snapshot(
        self, run: Run, step: int | None, link: Mapping[str, str], seen: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, str]:
        """The lens's value if it differs from what was seen, and what identifies it.

        Args:
            run: whose.
            step: one there is a snapshot of; None: the probe clip alone.
            link: for the address of the page; empty: the lens leaves it alone.
            seen: ``{"snapshot": what identified it then}``.
        """
        probe = run.validation_folder
        try:
            if step is None:
                if not (probe / "scene.json").is_file():
                    return (None if seen.get("snapshot") == "none" else {"message": NO_SNAPSHOT}), "none"
                scene, mark = run.validation_clip(), token(probe)
            else:
                home = run.folder / "snapshots" / f"{step:07d}"
                mark = f"{step} {'step' in link} {token(probe)} {token(home)}"
                if mark == seen.get("snapshot"):
                    return None, mark
                scene = run.snapshot(step)
            if mark == seen.get("snapshot"):
                return None, mark
            return payload(scene, self.gallery.address, link=link), mark
        except WorkbenchError as error:
            mark = f"broken {step} {error}"
            message = {"message": f"Step {step} cannot be shown: {error}"}
            return (None if seen.get("snapshot") == mark else message), mark


def _on_clip(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a lens's value says of its clip as a whole: mean PSNR-Y by method, and the collapse index."""
    series = next((curve["series"] for curve in value.get("curves", ()) if curve["key"] == "psnr_y_db"), {})
    known = {key: [psnr for psnr in values if psnr is not None] for key, values in series.items()}
    means = {key: sum(values) / len(values) for key, values in known.items() if values}
    return {"psnr_db": means, "index": value.get("memory", {}).get("index")}


def _lead(standing: str, measured: Mapping[str, float | None]) -> str:
    """Return a sentence on the student, one on the memory, and in small what was measured."""
    said = escape(memory.sentence(measured))
    lines = [f"<b>{escape(standing)}</b> <small>PSNR-Y, mean over the validation clip</small>"] if standing else []
    lines += [f"{said} <small>{escape(memory.numbers(measured))}</small>"] if said else []
    return "<div class='lead'>" + "".join(f"<p>{line}</p>" for line in lines) + "</div>" if lines else ""


def split(choice: Any, roots: Sequence[Path]) -> tuple[int, str]:
    """``"0/name"`` -> root and name; whatever else the browser may send is refused."""
    index, _, name = choice.partition("/") if isinstance(choice, str) else ("", "", "")
    if not re.fullmatch(r"[0-9]{1,3}", index) or int(index) >= len(roots) or not name:
        raise FolderError(f"{str(choice)[:80]!r} is none of the folders on show")
    return int(index), name


def _step(steps: Sequence[int], wish: Mapping[str, Any]) -> int | None:
    """The snapshot to show: the newest if that is followed or nothing was asked for, else the nearest to the wish."""
    wanted = wish.get("step")
    if not steps:
        return None
    if wish.get("follow") or not isinstance(wanted, int | float) or not math.isfinite(wanted):
        return steps[-1]
    return min(steps, key=lambda step: abs(step - wanted))


def asked(choices: Sequence[tuple[str, str]], name: str | None) -> str | None:
    """The choice that an address asks for by name (``?run=NAME``), else the first."""
    values = [value for _, value in choices]
    return next((value for value in values if name and value.partition("/")[2] == name), values[0] if values else None)
