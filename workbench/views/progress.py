"""Progress of a run, as a summary and as numbers for a chart, from a run folder that may still grow."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.aliases import rename_row, rename_settings
from workbench.errors import FolderError
from workbench.runs import Run, Status
from workbench.views.colors import term_colors

POINTS = 600
"""Maximum number of points of a curve: about the pixels of a chart."""


class MetricsLog:
    """Log of a run that may still grow; :meth:`read` parses only the lines that were appended since the last call.

    A resumed run rewrites its log (see ``RunWriter.rewind``); the log is then read from its beginning.

    Attributes:
        steps: logged steps.
        terms: name -> unweighted loss term at each step; None where it was not computed.
        diagnostics: name -> every other number at each step: gradient norm, seconds, memory, cosines, ...
        weights: weights of the terms at the last step.
        seconds: seconds spent in steps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._lines = 0
        self.steps: list[int] = []
        self.terms: dict[str, list[float | None]] = {}
        self.diagnostics: dict[str, list[float | None]] = {}
        self.weights: dict[str, float] = {}
        self.seconds = 0.0

    def read(self) -> MetricsLog:
        """Parse the new complete lines, and return this log."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    info = self.path.stat()
                    if (info.st_dev, info.st_ino) != self._file or info.st_size < self._offset:
                        self._reset()
                        self._file = (info.st_dev, info.st_ino)
                    file.seek(self._offset)
                    new = file.read()
            except FileNotFoundError:
                self._reset()
                return self
            whole = new[: new.rfind(b"\n") + 1]
            for line in whole.splitlines():
                self._lines += 1
                self._parse(line)
            self._offset += len(whole)
        return self

    def _parse(self, line: bytes) -> None:
        try:
            row = rename_row(json.loads(line))
            step, terms = int(row["step"]), {str(name): float(value) for name, value in row["terms"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            number = self._lines
            self._reset()
            raise FolderError(
                f"{self.path.name}, line {number}: want a line of a run's log, got another ({error})"
            ) from error
        diagnostics = {name: float(value) for name, value in row.items() if name != "step" and _is_number(value)}
        for known, new in ((self.terms, terms), (self.diagnostics, diagnostics)):
            for name in [name for name in new if name not in known]:
                known[name] = [None] * len(self.steps)
            for name, values in known.items():
                values.append(new.get(name))
        self.steps.append(step)
        weights = row.get("weights")
        if isinstance(weights, dict):
            self.weights = {str(name): float(value) for name, value in weights.items() if _is_number(value)}
        self.seconds += float(row.get("seconds") or 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def downsample(
    steps: Sequence[int], terms: Mapping[str, Sequence[float | None]], most: int = POINTS
) -> tuple[list[float], dict[str, list[float | None]]]:
    """Return the steps and terms reduced to about ``most`` points by averaging neighbors.

    Example:
        >>> downsample([1, 2, 3, 4], {"a": [1.0, 3.0, None, 5.0]}, most=2)
        ([1.5, 3.5], {'a': [2.0, 5.0]})
    """
    group = max(1, math.ceil(len(steps) / most))

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None and math.isfinite(value)]
        return float(f"{sum(known) / len(known):.5g}") if known else None

    cuts = [slice(i, i + group) for i in range(0, len(steps), group)]
    return [sum(steps[cut]) / len(steps[cut]) for cut in cuts], {
        name: [mean(values[cut]) for cut in cuts] for name, values in terms.items()
    }


def duration(seconds: float) -> str:
    """Return a duration as text.

    Example:
        >>> duration(7), duration(200), duration(9000)
        ('7 s', '3 min 20 s', '2 h 30 min')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def summary(status: Status, *, stop_after: float = 0, trained_seconds: float = 0, stopping: bool = False) -> str:
    """Return one line with step, speed and remaining time.

    Args:
        status: status of the run.
        stop_after: time limit in seconds; 0: none.
        trained_seconds: seconds spent in steps so far.
        stopping: whether a stop was requested.
    """
    parts = [f"step {status.step:,} of {status.steps:,}"]
    pace = status.seconds_per_step
    if pace and pace > 0:
        parts.append(f"{1 / pace:.1f} steps per second" if pace < 1 else f"{pace:.1f} s per step")
    if status.live and stopping:
        parts.append("stopping after this step")
    elif status.state == "running":
        left = status.seconds_left
        rest = max(0.0, stop_after - trained_seconds)
        if stop_after and (left is None or rest < left):
            parts.append(f"about {duration(rest)} left of {duration(stop_after)}, as in the bar")
        elif left is not None:
            parts.append(f"about {duration(left)} left")
        silent = time.time() - status.updated
        if status.updated and silent > max(30.0, 10 * (pace or 0)):
            parts.append(f"last update {duration(silent)} ago")
    return " · ".join(parts)


def settings(run: Run) -> Mapping[str, Any]:
    """Return the config of a run as it was saved, under today's names.

    Raises:
        FolderError: ``run.json`` is incomplete.
    """
    record = run.record()
    config = record.get("config")
    if not isinstance(config, Mapping):
        raise FolderError(f"{run.name}: run.json has no config; it is incomplete")
    return rename_settings(config) if record.get("format") == 1 else config


def progress(run: Run, log: MetricsLog, status: Status, *, step: int | None, follow: bool) -> dict[str, Any]:
    """Return the JSON value of the progress component.

    Args:
        run: the run.
        log: its log, just read.
        status: its status.
        step: step of the visible snapshot.
        follow: whether newer snapshots are shown as they arrive.
    """
    config = settings(run)
    stop_after = float(config.get("stop_after_seconds") or 0)
    fraction_done = status.step / status.steps if status.steps else 0.0
    if stop_after and status.state == "running":
        fraction_done = max(fraction_done, min(1.0, log.seconds / stop_after))
    stopping = (run.folder / "stop").exists()
    steps, terms = downsample(log.steps, log.terms)
    return {
        "run": run.name,
        "state": status.state,
        "title": status.state.capitalize(),
        "summary": summary(status, stop_after=stop_after, trained_seconds=log.seconds, stopping=stopping),
        "failure_reason": status.reason,
        "fraction_done": round(fraction_done, 4),
        "steps": steps,
        "terms": terms,
        "colors": term_colors(terms),
        "snapshots": run.snapshots(),
        "step": step,
        "follow": follow,
    }
