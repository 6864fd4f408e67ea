"""The Runs page: all runs in a table, and two of them beside each other. Re-weighing is arithmetic in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from workbench.config import differences
from workbench.errors import FolderError, WorkbenchError
from workbench.runs import Run, Status, list_runs
from workbench.scenes import read_scene
from workbench.views.colours import term_colours
from workbench.views.lens.gradio_lens import Lens
from workbench.views.progress import TITLES, Tail, settings, thinned
from workbench.views.serving import token
from workbench.views.studio.folders import NO_RUN, Studio
from workbench.views.studio.page import QUIET, QUIET_SECONDS, data_of, head, part

NO_LOOK = "{} has no snapshot to look at: the first comes soon after the start of a training that takes them."

RECENT = 50
"""Steps over which a pace is said."""

COMPARED = 2

POINTS = 300

BUDGET_MIB = 256
"""Of decoded pictures, for each of two viewers."""


class Runs:
    """What the Runs page asks for.

    Args:
        studio: the runs.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._scores: dict[str, tuple[str, str]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """One row a run: live ones first, then the newest."""
        rows = []
        for index, root in enumerate(self.studio.runs):
            for name in list_runs(root):
                row: dict[str, Any] = {"key": f"{index}/{name}", "name": name, "shipped": index > 0}
                try:
                    run = Run(root / name)
                    row |= self._row(run, run.status())
                except WorkbenchError as error:
                    row |= {"state": "unreadable", "title": "Not readable", "what": str(error), "live": False}
                rows.append(row)
        return sorted(rows, key=lambda row: not row["live"])

    def _row(self, run: Run, status: Status) -> dict[str, Any]:
        config = settings(run)
        student, teacher = (config.get(role) for role in ("student", "teacher"))
        who = student.get("name", "?") if isinstance(student, Mapping) else "?"
        taught = teacher.get("name") if isinstance(teacher, Mapping) else ""
        return {
            "state": status.state,
            "title": TITLES.get(status.state, status.state),
            "live": status.live,
            "step": status.step,
            "steps": status.steps,
            "left": status.seconds_left if status.state == "running" else None,
            "what": f"{taught} teaches {who}" if taught else f"{who} alone",
            "score": self._score(run),
            "reason": status.reason,
        }

    def _score(self, run: Run) -> str:
        """Mean PSNR of the student on the probe clip, at the newest snapshot."""
        steps = run.snapshots()
        if not steps:
            return ""
        home = run.folder / "snapshots" / f"{steps[-1]:07d}"
        try:
            mark = f"{home} {token(home)}"
            if self._scores.get(str(run.folder), ("", ""))[0] != mark:
                self._scores[str(run.folder)] = (mark, _mean_psnr(read_scene(home)))
            return self._scores[str(run.folder)][1]
        except FolderError:
            return "not readable"

    def compared(self, keys: Any) -> dict[str, Any]:
        """One run or two in curves and numbers, and the settings that differ.

        Raises:
            FolderError: other than one or two runs that there are.
        """
        if not isinstance(keys, list) or not 1 <= len(keys) <= COMPARED:
            raise FolderError(f"choose one run or {COMPARED}")
        names = [self.studio.run(key) for key in dict.fromkeys(map(str, keys))]
        lines: list[list[str]] = []
        if len(names) == COMPARED:
            try:
                old, new = ({"config": settings(run)} for run in names)
                found = differences(old["config"], new["config"])
                lines = [[name, _text(before), _text(after)] for name, (before, after) in found.items()]
            except WorkbenchError as error:
                lines = [["", str(error), ""]]
        return {
            "compared": [self._detail(f"{key}", run) for key, run in zip(keys, names, strict=False)],
            "lines": lines,
        }

    def beside(self, keys: Sequence[str], step: int | None, seen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the viewers of some runs show at the same step; a run is shown at its snapshot nearest to that.

        Args:
            keys: the runs.
            step: of the training; None: the last one that all of them have reached.
            seen: what was returned the last time, by run, without ``value``.

        Returns:
            By run ``name``; ``at`` and ``all``, the step shown and those that could be; ``snapshot``, what identifies
            it; ``value`` for the lens, None where it is as it was.
        """
        found: list[dict[str, Any]] = []
        for key in keys:
            try:
                run = self.studio.run(key)
                found.append({"name": run.name, "run": run, "all": run.snapshots(), "problem": ""})
            except WorkbenchError as error:
                found.append({"name": key.partition("/")[2], "all": [], "problem": str(error)})
        if step is None:
            step = min((side["all"][-1] for side in found if side["all"]), default=0)
        for side, before in zip(found, seen, strict=True):
            run, steps = side.pop("run", None), side["all"]
            side["at"] = min(steps, key=lambda one: abs(one - step)) if steps else None
            words = side.pop("problem") or NO_LOOK.format(side["name"])
            known = before if before.get("name") == side["name"] else {}
            if run is None or not steps:
                side["snapshot"], side["value"] = words, {"message": words} if known.get("snapshot") != words else None
            else:
                side["value"], side["snapshot"] = self.studio.snapshot(run, side["at"], {}, known)
        return found

    def _detail(self, key: str, run: Run) -> dict[str, Any]:
        try:
            tail, status = self.studio.tail(run), run.status()
        except WorkbenchError as error:
            return {"key": key, "name": run.name, "message": str(error)}
        steps, terms = thinned(tail.steps, tail.terms, POINTS)
        _, measures = thinned(tail.steps, _measures(tail), POINTS)
        return {
            "key": key,
            "name": run.name,
            "steps": steps,
            "terms": terms,
            "colours": term_colours(terms),
            "weights": tail.weights,
            "snapshots": run.snapshots(),
            "measures": measures,
            "facts": _facts(tail, status),
        }


def _measures(tail: Tail) -> dict[str, list[float | None]]:
    """The measures that are drawn: gradient norms and the angles between them."""
    return {
        name: values
        for name, values in tail.measures.items()
        if name == "gradient_norm" or name.startswith(("gradient.", "cosine."))
    }


def _facts(tail: Tail, status: Status) -> dict[str, Any]:
    """Pace, waiting, memory and time left, over the last steps."""

    def mean(name: str) -> float | None:
        recent = [value for value in tail.measures.get(name, [])[-RECENT:] if value is not None]
        return sum(recent) / len(recent) if recent else None

    seconds, waited = mean("seconds"), mean("data_time")
    memory = [value for value in tail.measures.get("peak_memory_mib", []) if value is not None]
    return {
        "step": status.step,
        "steps": status.steps,
        "state": TITLES.get(status.state, status.state),
        "steps_per_second": 1 / seconds if seconds else None,
        "waited": waited / seconds if seconds and waited is not None else None,
        "peak_memory_mib": max(memory) if memory else None,
        "seconds_left": status.seconds_left if status.state == "running" else None,
        "seconds": tail.seconds,
    }


def _mean_psnr(scene: Any) -> str:
    for curve in scene.curves:
        values = [value for value in curve.series.get("student", ()) if value is not None]
        if curve.key == "psnr_y_db" and values:
            return f"{sum(values) / len(values):.2f} dB"
    return ""


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "(none)"
    return str(value) if value != "" else "(empty)"


def runs_page(app: gr.Blocks, runs: Runs) -> None:
    """Lay out the page."""
    head(
        "Runs",
        "All trainings of this folder and those that ship. Choose two to see which settings differ, their losses over "
        "each other, and what each term of the loss contributes.",
    )
    board = part("runs", {"message": "Loading …"}, elem_id="runs-board")
    with gr.Column(elem_id="runs-beside"):
        gr.HTML("<h2>Side by side, at the same step and frame</h2>", js_on_load=None, elem_classes="page-head")
        with gr.Row(elem_id="runs-lenses"):
            names, lenses = [], []
            for side in range(COMPARED):
                with gr.Column(min_width=0):
                    names.append(gr.HTML(js_on_load=None, elem_id=f"runs-name-{side}"))
                    lenses.append(Lens({"message": ""}, elem_id=f"runs-lens-{side}", budget_mib=BUDGET_MIB))
    # As on the Run page: `wish` is written only by what the person does, `shown` only by looking.
    seen, wish, shown, timer = gr.State([]), gr.State({}), gr.State(_nothing()), gr.Timer(QUIET_SECONDS)
    viewers = [shown, *names, *lenses]

    def look(wish: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> list[Any]:
        if not wish.get("keys"):
            return [gr.skip()] * len(viewers)
        sides = runs.beside(wish["keys"], wish["step"], before)
        titles, updates = [], []
        for side, old in zip(sides, before, strict=True):
            value, steps = side.pop("value"), {"all": side["all"], "at": side["at"]}
            same = all(side[name] == old.get(name) for name in ("name", "at", "all"))
            titles.append(gr.skip() if same else _title(side))
            if value is not None:
                updates.append(gr.update(value=value, steps=steps))
            else:
                updates.append(gr.skip() if same else gr.update(steps=steps))
        return [sides, *titles, *updates]

    def load() -> list[Any]:
        rows = runs.rows()
        return [{"rows": rows, "empty": NO_RUN}, rows]

    def tick(before: list[dict[str, Any]], wish: dict[str, Any], shown: list[dict[str, Any]]) -> list[Any]:
        rows = runs.rows()
        news = [gr.skip(), gr.skip()] if rows == before else [{"rows": rows}, rows]
        return [*news, *look(wish, shown)]

    def choose(event: gr.EventData) -> list[Any]:
        compared = runs.compared(data_of(event).get("keys"))
        keys = [run["key"] for run in compared["compared"]]
        pair = {"keys": keys, "step": None} if len(keys) == COMPARED else {}
        return [compared, pair, *look(pair, _nothing())]

    def step(wish: dict[str, Any], shown: list[dict[str, Any]], event: gr.EventData) -> list[Any]:
        wanted = data_of(event).get("step")
        if not wish.get("keys") or type(wanted) is not int:
            return [wish, *([gr.skip()] * len(viewers))]
        return [(now := wish | {"step": wanted}), *look(now, shown)]

    app.load(load, None, [board, seen], **QUIET)
    timer.tick(tick, [seen, wish, shown], [board, seen, *viewers], **QUIET)
    board.choose(choose, None, [board, wish, *viewers], trigger_mode="multiple", **QUIET)
    for lens in lenses:
        lens.step(step, [wish, shown], [wish, *viewers], trigger_mode="multiple", **QUIET)


def _nothing() -> list[dict[str, Any]]:
    return [{} for _ in range(COMPARED)]


def _title(side: Mapping[str, Any]) -> str:
    at = "" if side["at"] is None else f" <small>step {side['at']:,}</small>"
    return f"<h3>{escape(side['name'])}{at}</h3>"
