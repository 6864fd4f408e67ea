"""Queue of jobs that need networks: one at a time, each in its own process, which can be terminated.

A job is a command. It reads one JSON object from its standard input, and writes one JSON object a line to its standard
output::

    {"status": "current work"}      any number of times
    {"error": "problem and fix"}    or
    {"result": {...}}               at the end
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

from workbench.errors import BusyError, FolderError
from workbench.process import detached, end_tree, was_killed

State = Literal["queued", "running", "done", "failed", "canceled"]

MAX_QUEUED = 8

MAX_FINISHED = 32
"""Finished jobs that stay in the list."""

TIME_LIMIT_SECONDS = 1800.0

MAX_LINE_BYTES = 1_000_000

UNKNOWN_JOB = "this job is not known any more; start it again"


@dataclass(eq=False)
class Job:
    """A job.

    Attributes:
        title: name for display.
        kind: kind of work.
        command: command line.
        request: JSON object for the standard input.
        session: browser session that submitted it; empty: not of a session.
        key: random name.
        state: current state.
        message: current work, or the reason of a failure.
        result: result of the command.
        process: process of the job; None before its start.
    """

    title: str
    kind: str
    command: Sequence[str]
    request: Mapping[str, Any]
    session: str = ""
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "queued"
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def finished(self) -> bool:
        """Whether the job is done, failed or canceled."""
        return self.state in ("done", "failed", "canceled")


class JobQueue:
    """Queue and its one worker thread.

    Args:
        after: function called with every finished job, by the worker thread or by :meth:`cancel`.
        time_limit_seconds: time after which a job is terminated.
    """

    def __init__(
        self, after: Callable[[Job], None] = lambda _: None, *, time_limit_seconds: float = TIME_LIMIT_SECONDS
    ) -> None:
        self._after, self._time_limit_seconds = after, time_limit_seconds
        self._jobs: dict[str, Job] = {}
        self._lock = threading.RLock()
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="studio-jobs", daemon=True)
        self._worker.start()

    def submit(
        self, kind: str, title: str, command: Sequence[str], request: Mapping[str, Any], session: str = ""
    ) -> Job:
        """Append a job to the queue.

        Raises:
            BusyError: the queue is full.
        """
        with self._lock:
            if sum(job.state == "queued" for job in self._jobs.values()) >= MAX_QUEUED:
                raise BusyError(f"queue: want at most {MAX_QUEUED} jobs, got one more; wait, or cancel a job")
            job = Job(title, kind, command, request, session)
            self._jobs[job.key] = job
            for old in [one for one in self._jobs.values() if one.finished][:-MAX_FINISHED]:
                del self._jobs[old.key]
        self._queue.put(job)
        return job

    def job(self, key: Any) -> Job:
        """Return a job by its key.

        Raises:
            FolderError: no such job.
        """
        job = self._jobs.get(key) if isinstance(key, str) else None
        if job is None:
            raise FolderError(UNKNOWN_JOB)
        return job

    def jobs(self, *kinds: str) -> list[Job]:
        """Return the jobs of some kinds, or all jobs, in the order of submission."""
        with self._lock:
            return [job for job in self._jobs.values() if not kinds or job.kind in kinds]

    def ahead(self, job: Job) -> int:
        """Return the number of jobs that finish before this one starts."""
        jobs = [one for one in self.jobs() if not one.finished]
        return jobs.index(job) if job in jobs else 0

    def describe(self, job: Job) -> dict[str, Any]:
        """Return key, title and state of a job as a JSON value."""
        ahead = self.ahead(job)
        message = f"{ahead} job{'s' * (ahead != 1)} before it" if ahead else job.message
        return {
            "key": job.key, "title": job.title, "state": job.state, "message": message, "finished": job.finished,
        }  # fmt: skip

    def cancel(self, key: Any) -> Job:
        """Terminate a job, or remove it from the queue."""
        job = self.job(key)
        with self._lock:
            if job.finished:
                return job
            job.state, job.message = "canceled", ""
        if job.process is not None:
            end_tree(job.process)
        else:
            self._after(job)
        return job

    def cancel_session(self, session: str) -> None:
        """Cancel all jobs of a browser session."""
        for job in self.jobs():
            if job.session == session:
                self.cancel(job.key)

    def close(self) -> None:
        """Terminate the running job and accept no more."""
        with self._lock:
            for job in self.jobs():
                if not job.finished:
                    job.state = "canceled"
                if job.process is not None:
                    end_tree(job.process, patience=0)
        self._queue.put(None)
        if self._worker is not threading.current_thread():
            self._worker.join(10)  # `after` of the last job still needs the folders

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._lock:
                if job.finished:  # canceled before its start
                    continue
                job.state = "running"
                try:
                    process = job.process = _start(job.command)
                except OSError as error:
                    process, job.state = None, "failed"
                    job.message = f"the command cannot be started: {error.strerror or error}"
            if process is None:
                self._after(job)
                continue
            timer = threading.Timer(self._time_limit_seconds, self._time_out, (job, process))
            timer.daemon = True
            timer.start()
            try:
                self._communicate(job, process)
            finally:
                timer.cancel()
                end_tree(process, patience=0)
                with self._lock:
                    if not job.finished:
                        job.state, job.message = "failed", _explain_exit(process)
                self._after(job)

    def _communicate(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job.request).encode())
            process.stdin.close()
        while line := process.stdout.readline(MAX_LINE_BYTES):
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # printed by a library
            if not isinstance(answer, dict):
                continue
            with self._lock:
                if job.finished:
                    return
                if "result" in answer:
                    job.state, job.message, job.result = "done", "", answer["result"]
                elif "error" in answer:
                    job.state, job.message = "failed", str(answer["error"])
                elif "status" in answer:
                    job.message = str(answer["status"])
        process.wait()

    def _time_out(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if not job.finished:
                minutes = self._time_limit_seconds / 60
                job.state = "failed"
                job.message = f"Time limit of {minutes:.0f} minutes reached; select a smaller part or fewer networks"
            end_tree(process, patience=0)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        **detached(),
    )


def _explain_exit(process: subprocess.Popen[bytes]) -> str:
    status = process.poll()
    if was_killed(status):
        return "the system terminated the job, most likely out of memory; select a smaller part or fewer networks"
    return f"the job ended without a result (exit status {status}); try again, or run the command in a terminal"
