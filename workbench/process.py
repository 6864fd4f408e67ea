"""What this process takes of the machine."""

from __future__ import annotations

import sys

import psutil


def peak_bytes() -> int:
    """Memory that this process has held at most since it started.

    On Linux that is ``VmHWM``: ``ru_maxrss`` begins, in a new process, with what its parent held.

    Example:
        >>> peak_bytes() > 2**20
        True
    """
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as status:
            held = next(line for line in status if line.startswith("VmHWM:"))
        return int(held.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
