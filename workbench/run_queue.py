"""Queue of training runs without a server: tickets are files."""

from __future__ import annotations

import re
import time
from pathlib import Path

from filelock import FileLock

from workbench.atomic_files import write_atomic
from workbench.runs import is_locked, list_runs


class Queue:
    """Queue of the runs under a folder: one machine trains one at a time.

    Each waiting worker has a ticket, a file in ``.queue`` under the folder of the runs; the oldest one is next. No
    process manages the queue: a ticket whose worker has ended is ignored.

    Args:
        root: folder of the run folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root / ".queue"

    def join(self, name: str) -> None:
        """Add a run to the queue."""
        self._folder.mkdir(exist_ok=True)
        write_atomic(self._folder / f"{time.time_ns():020d}.{name}", "")

    def leave(self, name: str) -> None:
        """Remove a run from the queue."""
        for ticket in self._tickets():
            if ticket.name.split(".", 1)[1] == name:
                ticket.unlink(missing_ok=True)

    def waiting(self) -> list[str]:
        """Return the names of the waiting runs, the next one first."""
        names = [ticket.name.split(".", 1)[1] for ticket in self._tickets()]
        return [name for name in names if is_locked(self.root / name)]

    def ahead(self, name: str) -> list[str]:
        """Return the names of the runs that ``name`` waits for: the one in progress, and those queued before."""
        waiting = self.waiting()
        before = waiting[: waiting.index(name)] if name in waiting else waiting
        in_progress = [other for other in list_runs(self.root) if other != name and other not in waiting]
        return [other for other in in_progress if is_locked(self.root / other)] + before

    def begin(self, name: str) -> bool:
        """Leave the queue if no run is ahead, and return whether that is so; only one caller at a time can.

        The caller holds its run's lock, so from here on it counts as in progress.
        """
        with FileLock(self._folder / "lock"):
            if self.ahead(name):
                return False
            self.leave(name)
            return True

    def _tickets(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if re.fullmatch(r"\d{20}\..+", path.name))
