"""The run folder: one training, live or finished, readable while it is being written. No torch.

::

    run.json          format, whole config, seed, library versions, git commit, checksums of data and weights
    metrics.jsonl     one object a line: step, terms (by name, unweighted), weights, total, learning rate, seconds
    status.json       state (queued, running, stopped, failed with the reason, finished), step, steps, time left
    lock              held while a worker lives
    reserve           a little disk space, freed to write the reason when the disk is full
    validation_clip/  a scene: what does not change on the validation clip (low, high, bicubic, teacher)
    snapshots/<step>/ a scene: the student at that step, and the plain student where there is one at the same step
    weights/          student.safetensors, memory.safetensors
    checkpoints/<step>/  all that an exact resume needs; the last two are kept
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench.aliases import rename_row
from workbench.config import RunConfig
from workbench.errors import BusyError, FolderError
from workbench.process import detached
from workbench.scenes import NAME, Scene, check_name, merge_scenes, read_scene, write_atomic

FORMAT = 2
PRETRAINED = "pretrained:"
RESERVE_BYTES = 256 * 1024
SECONDS_TO_BEGIN = 60.0
"""A worker that has not said a word for so long after its run was laid out will not."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands.

    Attributes:
        state: queued, running, stopped, failed, finished; or ``crashed``: it says running, but nobody holds its lock.
        step: steps done.
        steps: steps wanted.
        reason: why it failed or stopped, in words.
        seconds_per_step: a running mean.
        seconds_left: an estimate, None where there is none.
        updated: when this was written, seconds since 1970.
    """

    state: str
    step: int = 0
    steps: int = 0
    reason: str = ""
    seconds_per_step: float | None = None
    seconds_left: float | None = None
    updated: float = 0.0

    @property
    def live(self) -> bool:
        """Whether more is to be expected without anybody doing anything."""
        return self.state in ("queued", "running")

    @property
    def resumable(self) -> bool:
        """Whether starting it again goes on where it was."""
        return self.state in ("stopped", "failed", "crashed")


@dataclass(frozen=True)
class Run:
    """A run folder, to be read."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def record(self) -> dict[str, Any]:
        """What ``run.json`` says: config, versions, seed, checksums."""
        path = self.folder / "run.json"
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise FolderError(f"{self.folder}: no run.json here; `workbench train` writes runs") from error
        except ValueError as error:
            raise FolderError(f"{path}: not readable as JSON ({error})") from error
        if not isinstance(record, dict) or record.get("format") not in (1, FORMAT):
            raise FolderError(
                f"{path}: not a run of format 1 or {FORMAT}; update the workbench, or it is something else"
            )
        return record

    @property
    def validation_folder(self) -> Path:
        """Folder of the scene of the validation clip; runs of format 1 call it ``probe``."""
        old = self.folder / "probe"
        return old if old.is_dir() else self.folder / "validation_clip"

    @property
    def checkpoints_folder(self) -> Path:
        """Folder of the checkpoints; runs of format 1 call it ``state``."""
        old = self.folder / "state"
        return old if old.is_dir() else self.folder / "checkpoints"

    def config(self) -> RunConfig:
        """The settings of the run."""
        record = self.record()
        if not isinstance(record.get("config"), dict):
            raise FolderError(f"{self.folder / 'run.json'}: no config inside; it is not a whole run")
        return RunConfig.from_run(record["config"], version=record["format"])

    def status(self) -> Status:
        """Where it stands; a worker that was killed cannot say so itself, so its lock is looked at."""
        status = self._said()
        if status.live and status.updated and not is_locked(self.folder):
            status = self._said()  # it may have ended, and said so, between the two looks
            if status.live:
                status = replace(status, state="crashed", reason="the worker ended without a word; resume to go on")
        return status

    def _said(self) -> Status:
        """What the worker last said."""
        try:
            return Status(**json.loads((self.folder / "status.json").read_text()))
        except FileNotFoundError:
            steps, record = self.config().steps, self.folder / "run.json"
            if time.time() - record.stat().st_mtime > SECONDS_TO_BEGIN and not is_locked(self.folder):
                return Status(
                    state="crashed", steps=steps, reason="no worker ever began; resume to start it, see log.txt"
                )
            return Status(state="queued", steps=steps)
        except (ValueError, TypeError) as error:
            raise FolderError(f"{self.folder / 'status.json'}: not a readable status ({error})") from error

    def metrics(self, after: int = 0) -> list[dict[str, Any]]:
        """Every whole line with ``step > after``; a line still being written is left for next time."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        rows = []
        for number, line in enumerate(whole, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise FolderError(f"{path}, line {number}: not readable as JSON ({error})") from error
            if row["step"] > after:
                rows.append(rename_row(row))
        return rows

    def snapshots(self) -> list[int]:
        """Steps at which there is a whole snapshot, ascending."""
        home = self.folder / "snapshots"
        if not home.is_dir():
            return []
        return sorted(int(p.name) for p in home.iterdir() if p.name.isdigit() and (p / "scene.json").is_file())

    def validation_clip(self) -> Scene:
        """Read what does not change on the validation clip.

        Earlier versions put a finished plain student there; it is left out, since it has no step to compare with.
        """
        return read_scene(self.validation_folder).without("plain")

    def snapshot(self, step: int) -> Scene:
        """Read the validation clip at a step: what does not change, and the student, as one scene.

        The plain student is in it where there is one at this very step.
        """
        students = read_scene(self.folder / "snapshots" / f"{step:07d}")
        title = f"{self.name}, step {step:,}"
        if any(method.key == "plain" for method in students.methods):
            title += ": distilled and plain student, both at this step"
        return merge_scenes(f"{self.name}-{step}", title, self.validation_clip(), students)

    def weights(self, name: str = "student") -> Path:
        """Where the weights called ``name`` lie."""
        return self.folder / "weights" / f"{name}.safetensors"


class RunWriter:
    """The worker's side of a run folder; holds the lock from construction to :meth:`close`.

    Raises:
        BusyError: another worker is at it.
        FolderError: not a run.
    """

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder)
        self.config = self.run.config()
        self.folder = folder
        self._metrics = None
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=1)  # whoever asks whether a worker lives holds it for a moment
        except Timeout as error:
            raise BusyError(f"{folder.name}: another worker is at it; follow or stop that one") from error
        try:
            (folder / "stop").unlink(missing_ok=True)
            if not (folder / "reserve").exists():
                write_atomic(folder / "reserve", b"\0" * RESERVE_BYTES)
        except OSError:
            self.close()
            raise

    def write_status(self, state: str, step: int, *, reason: str = "", seconds_per_step: float | None = None) -> None:
        """Replace ``status.json``; a failure is written with the help of the reserve when the disk is full."""
        left = seconds_per_step * (self.config.steps - step) if seconds_per_step and state == "running" else None
        status = {
            "state": state,
            "step": step,
            "steps": self.config.steps,
            "reason": reason,
            "seconds_per_step": seconds_per_step,
            "seconds_left": left,
            "updated": time.time(),
        }
        if state == "failed":
            (self.folder / "reserve").unlink(missing_ok=True)
        write_atomic(self.folder / "status.json", json.dumps(status))

    def write_cache_progress(self, step: int, done: int, clips: int) -> None:
        """Say now and then how far the teacher's cache is."""
        if done % 16 == 0 or done == clips:
            self.write_status("running", step, reason=f"the teacher looks at fixed crop {done} of {clips}")

    def rewind(self, step: int) -> None:
        """Forget what was logged or looked at after ``step``, and what a killed worker left half made.

        A resumed run repeats nothing.
        """
        homes = (self.folder / "snapshots", self.run.checkpoints_folder, self.folder / "weights")
        for home in (self.folder, *homes):
            for left in home.glob(".*"):  # whoever was writing is dead: this worker holds the lock
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        kept = [json.dumps(row) + "\n" for row in self.run.metrics() if row["step"] <= step]
        write_atomic(self.folder / "metrics.jsonl", "".join(kept))
        for later in self.run.snapshots():
            if later > step:
                shutil.rmtree(self.folder / "snapshots" / f"{later:07d}")

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; it is on its way to the disk when this returns."""
        if self._metrics is None:
            self._metrics = (self.folder / "metrics.jsonl").open("a")
        self._metrics.write(json.dumps(row, allow_nan=False) + "\n")
        self._metrics.flush()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked this run to stop."""
        return (self.folder / "stop").exists()

    def close(self) -> None:
        """Let go of the lock."""
        try:
            if self._metrics is not None:
                self._metrics.close()
        finally:
            self._lock.release()


def create_run(folder: Path, config: RunConfig, provenance: Mapping[str, Any] | None = None) -> Run:
    """Lay out a new run folder; nothing is computed yet.

    Args:
        folder: where; must not exist.
        config: what the run is.
        provenance: further lines for ``run.json`` (versions, commit, checksums).

    Raises:
        FolderError: there is something already, or the name cannot be a folder name everywhere.
    """
    check_name(folder.name, "run")
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise FolderError(f"{folder}: there is something already; choose another name, or resume it") from error
    record = {"format": FORMAT, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "config": config.to_dict()}
    write_atomic(folder / "run.json", json.dumps(record | dict(provenance or {}), indent=1))
    write_atomic(folder / "reserve", b"\0" * RESERVE_BYTES)
    return Run(folder)


def update_record(run: Run, changes: Mapping[str, Any]) -> None:
    """Replace some entries of ``run.json``.

    Raises:
        BusyError: a worker is at the run.
    """
    if is_locked(run.folder):
        raise BusyError(f"{run.name}: a worker is at it; stop it first")
    write_atomic(run.folder / "run.json", json.dumps(run.record() | dict(changes), indent=1))


def is_locked(folder: Path) -> bool:
    """Whether a worker lives in this run folder."""
    if not (folder / "lock").exists():
        return False
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a read-only folder, for instance the runs that ship with the package: nobody can be at work there
        return False
    lock.release()
    return False


def list_runs(root: Path) -> list[str]:
    """Names of the runs under a folder, newest first; half-made ones without ``run.json`` are left out."""
    if not root.is_dir():
        return []
    found = [p for p in root.iterdir() if NAME.fullmatch(p.name) and (p / "run.json").is_file()]
    return [p.name for p in sorted(found, key=lambda p: (p.stat().st_mtime, p.name), reverse=True)]


def find_run(roots: Iterable[Path], name: str) -> Run:
    """The run called ``name`` under the first root that has it.

    Raises:
        FolderError: no such run; names the ones there are. A name with path separators is never looked up.
    """
    known: list[str] = []
    for root in roots:
        names = list_runs(root)
        if name in names:
            return Run(root / name)
        known += names
    raise FolderError(f"no run {name!r}; there are: {', '.join(known) or 'none yet'}")


def locate_run(where: str) -> Run:
    """Return the run that a folder, or ``pretrained:NAME`` (one that ships), stands for.

    Raises:
        FolderError: there is none; names the ones that ship.
    """
    if where.startswith(PRETRAINED):
        return find_run([shipped("runs")], where.removeprefix(PRETRAINED))
    run = Run(Path(where))
    run.record()
    return run


def shipped(kind: str) -> Path:
    """Where the ``runs`` or ``scenes`` that come with the package lie."""
    return Path(str(resources.files("workbench.pretrained"))) / kind


class Queue:
    """Runs that wait for each other, so that one machine trains one at a time.

    Each waiting worker holds a ticket, a file in ``.queue`` under the folder of the runs; who drew first goes first.
    There is no process that could die and leave the others waiting: a ticket whose worker is gone does not count.

    Args:
        root: the folder that holds the run folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._home = root / ".queue"

    def join(self, name: str) -> None:
        """Draw a ticket."""
        self._home.mkdir(exist_ok=True)
        write_atomic(self._home / f"{time.time_ns():020d}.{name}", "")

    def leave(self, name: str) -> None:
        """Give the ticket back."""
        for ticket in self._tickets():
            if ticket.name.split(".", 1)[1] == name:
                ticket.unlink(missing_ok=True)

    def waiting(self) -> list[str]:
        """Names of the runs that wait, the next one first."""
        names = [ticket.name.split(".", 1)[1] for ticket in self._tickets()]
        return [name for name in names if is_locked(self.root / name)]

    def ahead(self, name: str) -> list[str]:
        """Names of the runs that ``name`` waits for: the one at work, and those that came before."""
        waiting = self.waiting()
        before = waiting[: waiting.index(name)] if name in waiting else waiting
        at_work = [other for other in list_runs(self.root) if other != name and other not in waiting]
        return [other for other in at_work if is_locked(self.root / other)] + before

    def begin(self, name: str) -> bool:
        """Take the turn if it has come; two that ask at once do not both get it.

        The caller holds its run's lock, so from here on the others see it at work.
        """
        with FileLock(self._home / "lock"):
            if self.ahead(name):
                return False
            self.leave(name)
            return True

    def _tickets(self) -> list[Path]:
        if not self._home.is_dir():
            return []
        return sorted(path for path in self._home.iterdir() if re.fullmatch(r"\d{20}\..+", path.name))


def start_worker(run: Run, *, queue: bool = False) -> int:
    """Start (or resume) a run in a process of its own, which outlives this one; returns its process id.

    Args:
        run: which.
        queue: let it wait until no other run of its folder is at work.

    Raises:
        BusyError: a worker is at it already.
    """
    if is_locked(run.folder):
        raise BusyError(f"{run.name}: a worker is at it already")
    (run.folder / "stop").unlink(missing_ok=True)
    with (run.folder / "log.txt").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "workbench.training.worker", str(run.folder), *(["--queue"] if queue else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
            **detached(),
        )
    return worker.pid


def request_stop(run: Run) -> None:
    """Ask a run to finish its step, save and say stopped; it can be resumed later."""
    write_atomic(run.folder / "stop", "")
