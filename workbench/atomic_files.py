"""Files that are written atomically: a reader gets the old content or the new, never a part."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

WAITS_FOR_READERS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between two attempts to replace a file that is being read."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader, also after a crash, gets the old content or the new."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    """Replace a file by another; on Windows that fails while another process reads it, so try again."""
    for seconds in WAITS_FOR_READERS if sys.platform == "win32" else ():
        try:
            return os.replace(partial, path)
        except PermissionError:
            time.sleep(seconds)
    os.replace(partial, path)
