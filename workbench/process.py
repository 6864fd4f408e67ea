"""Memory and library versions of this process, and start and end of others, on every system."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Any, TypedDict

import psutil

from workbench import __version__

KILLED = (-9, 0xC0000017)
"""Exit status of a process that the system ended for lack of memory: by SIGKILL, or with Windows' STATUS_NO_MEMORY."""

KILL_TIMEOUT = 5.0


def peak_bytes() -> int:
    """Return the peak memory of this process since its start.

    On Linux that is ``VmHWM``: ``ru_maxrss`` starts, in a new process, with the memory of its parent.

    Example:
        >>> peak_bytes() > 2**20
        True
    """
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def library_versions(*distributions: str) -> dict[str, str]:
    """Return the versions of this package, installed or not, and of installed distributions.

    Example:
        >>> list(library_versions("torch", "numpy"))
        ['workbench', 'torch', 'numpy']
    """
    return {"workbench": __version__, **{name: version(name) for name in distributions}}


def was_killed(status: int | None) -> bool:
    """Return whether an exit status is that of a process which the system ended, most likely for lack of memory.

    Example:
        >>> was_killed(-9), was_killed(1), was_killed(None)
        (True, False, False)
    """
    return status in KILLED


class Detached(TypedDict):
    """Options of ``subprocess.Popen``; each is ignored where it does not apply."""

    creationflags: int
    start_new_session: bool


def detached() -> Detached:
    """Return the options of ``subprocess.Popen`` with which Ctrl-C in this terminal does not reach the new process."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP, "start_new_session": False}
    return {"creationflags": 0, "start_new_session": True}


def end_tree(process: subprocess.Popen[Any], patience: float = 3.0) -> None:
    """End a process and all its descendants.

    Args:
        process: a child of this one.
        patience: seconds to terminate (not on Windows), after which it is killed.
    """
    if process.poll() is not None:
        return
    tree = _tree(process.pid)
    if patience:
        for one in tree:
            with suppress(psutil.Error):
                one.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for one in {*tree, *_tree(process.pid)}:
        with suppress(psutil.Error):  # it has ended, or its id belongs to another process now
            one.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_TIMEOUT)


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; an empty list if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
