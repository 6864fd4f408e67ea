"""Run folder: one training, live or finished, readable while it is being written. No torch.

::

    run.json          format, whole config, seed, library versions, git commit, checksums of data and weights
    metrics.jsonl     one object a line: step, terms (by name, unweighted), weights, total, learning rate, seconds
    status.json       state (see Status), reason, step, steps, time left
    lock              held while a worker lives
    reserve           a little disk space, freed to write the reason when the disk is full
    validation_clip/  a scene: low, high, bicubic and teacher frames of the validation clip, the same at every step
    snapshots/<step>/ a scene: the student at that step, and the plain student where there is one at the same step
    weights/          student.safetensors, memory.safetensors
    checkpoints/<step>/  state of an exact resume; the last two are kept
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench.aliases import rename_row
from workbench.atomic_files import write_atomic
from workbench.config import RunConfig
from workbench.errors import BusyError, FolderError
from workbench.process import detached
from workbench.scenes import NAME, Scene, check_name, merge_scenes, read_scene

FORMAT = 2
PRETRAINED = "pretrained:"
RESERVE_BYTES = 256 * 1024
START_TIMEOUT_SECONDS = 60.0
"""Time after the creation of a run within which its worker must begin."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Status of a run.

    Attributes:
        state: created (nothing has started it), queued, running, stopped, failed, finished; or ``crashed``: running in
            the file, but without a lock.
        step: steps done.
        steps: steps wanted.
        reason: of a failure or a stop.
        seconds_per_step: a running mean.
        seconds_left: an estimate, or None.
        updated: time of this status, seconds since 1970.
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
        """Whether the run is queued or running."""
        return self.state in ("queued", "running")

    @property
    def resumable(self) -> bool:
        """Whether it can be resumed."""
        return self.state in ("created", "stopped", "failed", "crashed")


@dataclass(frozen=True)
class Run:
    """Reader of a run folder."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    def record(self) -> dict[str, Any]:
        """Return ``run.json``: config, versions, seed, checksums."""
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
        """Return the settings of the run."""
        record = self.record()
        if not isinstance(record.get("config"), dict):
            raise FolderError(f"{self.folder / 'run.json'}: no config inside; it is not a whole run")
        return RunConfig.from_run(record["config"], version=record["format"])

    def status(self) -> Status:
        """Return the status; a killed worker cannot write it, so its lock is checked."""
        status = self._last_status()
        if status.live and status.updated and not is_locked(self.folder):
            status = self._last_status()  # it may have ended between the two checks
            if status.live:
                status = replace(
                    status, state="crashed", reason="the worker ended without a reason; resume to continue"
                )
        return status

    def _last_status(self) -> Status:
        """Return the last status that the worker wrote."""
        try:
            return Status(**json.loads((self.folder / "status.json").read_text()))
        except FileNotFoundError:
            steps, record = self.config().steps, self.folder / "run.json"
            if time.time() - record.stat().st_mtime > START_TIMEOUT_SECONDS and not is_locked(self.folder):
                if not (self.folder / "log.txt").exists():
                    return Status(state="created", steps=steps, reason="no worker was started; resume to start one")
                return Status(
                    state="crashed", steps=steps, reason="no worker ever began; resume to start it, see log.txt"
                )
            return Status(state="queued", steps=steps)
        except (ValueError, TypeError) as error:
            raise FolderError(f"{self.folder / 'status.json'}: not a readable status ({error})") from error

    def metrics(self, after: int = 0) -> list[dict[str, Any]]:
        """Return every complete line with ``step > after``; a partly written line is left out."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        complete = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        rows = []
        for number, line in enumerate(complete, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise FolderError(f"{path}, line {number}: not readable as JSON ({error})") from error
            if row["step"] > after:
                rows.append(rename_row(row))
        return rows

    def snapshots(self) -> list[int]:
        """Return the steps with a complete snapshot, ascending."""
        return _steps(self.folder / "snapshots", "scene.json")

    def snapshot_folder(self, step: int) -> Path:
        """Return the folder of the snapshot at a step."""
        return self.folder / "snapshots" / f"{step:07d}"

    def checkpoints(self) -> list[int]:
        """Return the steps with a complete checkpoint, ascending."""
        return _steps(self.checkpoints_folder, "state.json")

    def checkpoint_folder(self, step: int) -> Path:
        """Return the folder of the checkpoint at a step."""
        return self.checkpoints_folder / f"{step:07d}"

    def validation_clip(self) -> Scene:
        """Return the scene of the validation clip that no step changes.

        Earlier versions put a finished plain student there; it is left out, since it belongs to no step.
        """
        return read_scene(self.validation_folder).without("plain")

    def snapshot(self, step: int) -> Scene:
        """Return the validation clip at a step: the unchanging scene and the student, as one scene.

        It contains the plain student where there is one at the same step.
        """
        students = read_scene(self.snapshot_folder(step))
        title = f"{self.name}, step {step:,}"
        if any(method.key == "plain" for method in students.methods):
            title += ": distilled and plain student, both at this step"
        return merge_scenes(f"{self.name}-{step}", title, self.validation_clip(), students)

    def weights(self, name: str = "student") -> Path:
        """Return the path of the weights called ``name``."""
        return self.folder / "weights" / f"{name}.safetensors"


def _steps(folder: Path, record: str) -> list[int]:
    """Return the steps whose folders contain their record, which is written last, ascending."""
    return sorted(int(path.parent.name) for path in folder.glob(f"*/{record}") if path.parent.name.isdigit())


class RunWriter:
    """Writer of a run folder; holds the lock from construction to :meth:`close`.

    Raises:
        BusyError: another worker holds the lock.
        FolderError: not a run.
    """

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder)
        self.config = self.run.config()
        self.folder = folder
        self._metrics = None
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=1)  # a check of the lock holds it for a moment
        except Timeout as error:
            raise BusyError(f"{folder.name}: another worker is training it; follow or stop that one") from error
        try:
            (folder / "stop").unlink(missing_ok=True)
            if not (folder / "reserve").exists():
                write_atomic(folder / "reserve", b"\0" * RESERVE_BYTES)
        except OSError:
            self.close()
            raise

    def write_status(self, state: str, step: int, *, reason: str = "", seconds_per_step: float | None = None) -> None:
        """Replace ``status.json``; a failure frees the reserve first, in case the disk is full."""
        left = seconds_per_step * (self.config.steps - step) if seconds_per_step and state == "running" else None
        status = Status(
            state=state, step=step, steps=self.config.steps, reason=reason, seconds_per_step=seconds_per_step,
            seconds_left=left, updated=time.time(),
        )  # fmt: skip
        if state == "failed":
            (self.folder / "reserve").unlink(missing_ok=True)
        write_atomic(self.folder / "status.json", json.dumps(asdict(status)))

    def write_cache_progress(self, step: int, done: int, clips: int) -> None:
        """Write the progress of the teacher cache into the status, every 16 clips."""
        if done % 16 == 0 or done == clips:
            self.write_status("running", step, reason=f"teacher cache: clip {done} of {clips}")

    def rewind(self, step: int) -> None:
        """Remove log rows and snapshots after ``step``, and partial files of a killed worker."""
        folders = (self.folder / "snapshots", self.run.checkpoints_folder, self.folder / "weights")
        for folder in (self.folder, *folders):
            for partial in folder.glob(".*"):  # no other process writes: this worker holds the lock
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        kept = [json.dumps(row) + "\n" for row in self.run.metrics() if row["step"] <= step]
        write_atomic(self.folder / "metrics.jsonl", "".join(kept))
        for later in self.run.snapshots():
            if later > step:
                shutil.rmtree(self.run.snapshot_folder(later))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl`` and flush it."""
        if self._metrics is None:
            self._metrics = (self.folder / "metrics.jsonl").open("a")
        self._metrics.write(json.dumps(row, allow_nan=False) + "\n")
        self._metrics.flush()

    @property
    def stop_requested(self) -> bool:
        """Whether a stop of this run was requested."""
        return (self.folder / "stop").exists()

    def close(self) -> None:
        """Release the lock."""
        try:
            if self._metrics is not None:
                self._metrics.close()
        finally:
            self._lock.release()


def create_run(folder: Path, config: RunConfig, provenance: Mapping[str, Any] | None = None) -> Run:
    """Create a run folder; nothing is computed yet.

    Args:
        folder: must not exist.
        config: settings of the run.
        provenance: further entries for ``run.json`` (versions, commit, checksums).

    Raises:
        FolderError: the folder exists, or its name is not valid on every system.
    """
    check_name(folder.name, "run")
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise FolderError(f"{folder}: exists already; choose another name, or resume the run") from error
    record = {"format": FORMAT, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "config": config.to_dict()}
    write_atomic(folder / "run.json", json.dumps(record | dict(provenance or {}), indent=1))
    write_atomic(folder / "reserve", b"\0" * RESERVE_BYTES)
    return Run(folder)


def update_record(run: Run, changes: Mapping[str, Any]) -> None:
    """Replace some entries of ``run.json``.

    Raises:
        BusyError: a worker is training the run.
    """
    if is_locked(run.folder):
        raise BusyError(f"{run.name}: a worker is training it; stop it first")
    write_atomic(run.folder / "run.json", json.dumps(run.record() | dict(changes), indent=1))


def is_locked(folder: Path) -> bool:
    """Return whether a worker holds the lock of a run folder."""
    if not (folder / "lock").exists():
        return False
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a read-only folder, for example of a shipped run: no worker can be there
        return False
    lock.release()
    return False


def list_runs(root: Path) -> list[str]:
    """Return the names of the runs under a folder, newest first; folders without ``run.json`` are left out."""
    if not root.is_dir():
        return []
    found = [p for p in root.iterdir() if NAME.fullmatch(p.name) and (p / "run.json").is_file()]
    return [p.name for p in sorted(found, key=lambda p: (p.stat().st_mtime, p.name), reverse=True)]


def find_run(roots: Iterable[Path], name: str) -> Run:
    """Return the run called ``name`` under the first root that contains it.

    Raises:
        FolderError: no such run; lists the existing ones. A name with path separators is never looked up.
    """
    known: list[str] = []
    for root in roots:
        names = list_runs(root)
        if name in names:
            return Run(root / name)
        known += names
    raise FolderError(f"no run {name!r}; there are: {', '.join(known) or 'none yet'}")


def locate_run(where: str) -> Run:
    """Return the run of a folder, or of ``pretrained:NAME`` (a shipped one).

    Raises:
        FolderError: no such run; lists the shipped ones.
    """
    if where.startswith(PRETRAINED):
        return find_run([shipped("runs")], where.removeprefix(PRETRAINED))
    run = Run(Path(where))
    run.record()
    return run


def shipped(kind: str) -> Path:
    """Return the folder of the ``runs`` or ``scenes`` that ship with the package."""
    return Path(str(resources.files("workbench.pretrained"))) / kind


def start_worker(run: Run, *, queue: bool = False) -> int:
    """Start (or resume) a run in a process of its own, which outlives this one; returns its process id.

    Args:
        run: prepared or stopped.
        queue: wait until no other run of its folder is in progress.

    Raises:
        BusyError: a worker is training it already.
    """
    if is_locked(run.folder):
        raise BusyError(f"{run.name}: a worker is training it already")
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
    """Request a run to finish its step, save and stop; it can be resumed later."""
    write_atomic(run.folder / "stop", "")
