"""Work that needs networks: one job at a time, in line, each in a process of its own that can be ended.

A job is a command. It reads one JSON object from its standard input, and writes one a line to its standard output::

    {"say": "what is being done"}           as often as it likes
    {"error": "what is wrong, in words"}    or
    {"done": {...}}                         at last
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import BusyError, FolderError
from workbench.process import detached, end_tree, was_killed

State = Literal["waiting", "working", "done", "failed", "cancelled"]

WAITING = 8
"""More are not taken into the line."""

KEPT = 32
"""Jobs that are over, and still known."""

SECONDS = 1800.0
"""A job that takes longer is ended."""

LONGEST_LINE = 1_000_000

UNKNOWN = "this job is not known any more; start it again"


@dataclass
class Job:
    """One piece of work.

    Attributes:
        title: what a person reads.
        kind: what for.
        command: its command line.
        order: what it reads.
        key: its name, which nobody can guess.
        state: where it stands.
        said: what it is doing, or why it failed.
        result: what it found.
        about: whatever the asker wants to know again.
        began: when it began to work, seconds of a monotonic clock.
        ended: when it was over, likewise.
    """

    title: str
    kind: str
    command: Sequence[str]
    order: Mapping[str, Any]
    about: Mapping[str, Any]
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "waiting"
    said: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more is to be expected."""
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """The line, and the one place to work.

    Args:
        after: called with every job that is over, by the thread that works.
        seconds: a job that takes longer is ended.
    """

    def __init__(self, after: Callable[[Job], None] = lambda _: None, *, seconds: float = SECONDS) -> None:
        self._after, self._seconds = after, seconds
        self._jobs: dict[str, Job] = {}
        self._line: deque[Job] = deque()
        self._change = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._worker: threading.Thread | None = None
        self._closed = False

    def ask(self, kind: str, title: str, command: Sequence[str], order: Mapping[str, Any], **about: Any) -> Job:
        """Put a job into the line.

        Raises:
            BusyError: the line is full.
        """
        with self._change:
            if len(self._line) >= WAITING:
                raise BusyError(f"{WAITING} jobs wait already; let one of them end, or cancel one")
            job = Job(title, kind, command, order, about)
            self._jobs[job.key] = job
            for old in [one for one in self._jobs.values() if one.over][:-KEPT]:
                del self._jobs[old.key]
            self._line.append(job)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="studio-jobs", daemon=True)
                self._worker.start()
            self._change.notify_all()
            return job

    def job(self, key: Any) -> Job:
        """A job by its key.

        Raises:
            FolderError: there is none.
        """
        job = self._jobs.get(key) if isinstance(key, str) else None
        if job is None:
            raise FolderError(UNKNOWN)
        return job

    def known(self, *kinds: str) -> list[Job]:
        """All jobs of some kinds, the oldest first; without kinds, all."""
        with self._change:
            return [job for job in self._jobs.values() if not kinds or job.kind in kinds]

    def line(self) -> list[dict[str, str]]:
        """The jobs at work and in line, as a person reads them."""
        with self._change:
            working = [job for job in self._jobs.values() if job.state == "working"]
            return [{"title": job.title, "state": job.state, "said": job.said} for job in (*working, *self._line)]

    def ahead(self, job: Job) -> int:
        """How many jobs end before this one begins."""
        with self._change:
            if job.state != "waiting" or job not in self._line:
                return 0
            return self._line.index(job) + (self._process is not None)

    def cancel(self, key: Any) -> Job:
        """End a job, or take it out of the line."""
        job = self.job(key)
        with self._change:
            if job.over:
                return job
            was, job.state, job.said = job.state, "cancelled", "cancelled"
            process = self._process
            if was == "waiting":
                self._line.remove(job)
        if was == "waiting":
            self._after(job)
        elif process is not None:
            _end(process)
        return job

    def wait(self, job: Job, seconds: float = 60.0) -> Job:
        """Until a job is over, or so many seconds have passed."""
        with self._change:
            self._change.wait_for(lambda: job.over and self._process is None, seconds)
        return job

    def close(self) -> None:
        """End what works, and take nothing more."""
        with self._change:
            self._closed = True
            self._line.clear()
            if self._process is not None:
                _end(self._process, patience=0)
            self._change.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(10)  # what comes after the last job still finds everything in its place

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._line or self._closed)
                if self._closed:
                    return
                job = self._line.popleft()
                job.state, job.began = "working", time.monotonic()
                try:
                    process = self._process = _start(job.command)
                except OSError as error:
                    job.state, job.said = "failed", f"the work could not be begun: {error.strerror or error}"
                    process = None
            if process is None:
                self._after(job)
                continue
            timer = threading.Timer(self._seconds, self._too_long, (job, process))
            timer.daemon = True
            timer.start()
            try:
                self._speak(job, process)
            finally:
                timer.cancel()
                with self._change:
                    _end(process, patience=0)
                    if not job.over:
                        job.state, job.said = "failed", _last_words(process)
                    job.ended = time.monotonic()
                self._after(job)
                with self._change:
                    self._process = None
                    self._change.notify_all()

    def _speak(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job.order).encode())
            process.stdin.close()
        while line := process.stdout.readline(LONGEST_LINE):
            try:
                said = json.loads(line)
            except ValueError:
                continue  # something a library printed
            if not isinstance(said, dict):
                continue
            with self._change:
                if job.over:
                    return
                if "done" in said:
                    job.state, job.said, job.result = "done", "", said["done"]
                elif "error" in said:
                    job.state, job.said = "failed", str(said["error"])
                elif "say" in said:
                    job.said = str(said["say"])
        process.wait()

    def _too_long(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        with self._change:
            if not job.over:
                minutes = self._seconds / 60
                job.state, job.said = "failed", f"ended after {minutes:.0f} minutes: too long; choose a smaller part"
            _end(process, patience=0)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        **detached(),
    )


def _end(process: subprocess.Popen[bytes], patience: float = 3.0) -> None:
    """End the process of a job and what it started; politely first, if there is time."""
    end_tree(process, patience)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    status = process.poll()
    if was_killed(status):
        return "the system ended it, most likely for want of memory; choose a smaller part or fewer networks"
    return f"it ended without a word (status {status}); try again, or run the command in a terminal"
