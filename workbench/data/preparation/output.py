"""Output folders of long jobs: a lock, checks before the work, errors with a fix, and their JSON files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench.errors import BusyError, DataError


@contextmanager
def exclusive(out: Path, lock: Path) -> Iterator[None]:
    """Lock an output folder for as long as the block runs; the file of the lock is removed at its end.

    Args:
        out: the folder, for messages.
        lock: file of the lock; its folder is created.

    Raises:
        BusyError: another job has the lock.
        DataError: the block, or the lock, could not write.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock).acquire(timeout=0):
            try:
                yield
            finally:
                with suppress(OSError):  # some systems do not delete the file of a lock in use
                    lock.unlink()
    except Timeout as error:
        raise BusyError(f"{out}: another job is writing to it; wait for it or stop it") from error
    except OSError as error:
        reason = " ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        raise DataError(
            f"{out}: cannot be written ({reason}); free space or choose another folder, then run the same again: "
            "finished parts are kept"
        ) from error


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Translate errors in the content of a file of a prepared folder.

    Raises:
        DataError: the block could not read or understand the file.
    """
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}); prepare it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
        DataError: the file is missing, damaged, or contains something else.
    """
    with parsing(path):
        saved = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(saved, dict):
            raise TypeError(f"want an object, got {type(saved).__name__}")
        return saved


def check_output(out: Path, *, resumable: bool) -> None:
    """Check that an output folder is new, empty, or from an earlier call.

    Raises:
        DataError: it is a file, or contains other files.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: want a folder to write to, got a file; choose another name")
    if not resumable and out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out}: contains files of another origin; choose a new or an empty folder")


def check_settings(out: Path, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Check that a folder was begun with the same settings.

    Raises:
        DataError: some differ; the message names them.
    """
    other = [f"{name} {before.get(name)!r}, now {value!r}" for name, value in now.items() if before.get(name) != value]
    if other:
        raise DataError(
            f"{out}: prepared with other settings ({'; '.join(other)}); choose another folder, or delete it"
        )


def check_free_space(out: Path, num_bytes: float, advice: str) -> None:
    """Check that a disk has space for the output.

    Raises:
        DataError: it has less.
    """
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if num_bytes > free:
        raise DataError(
            f"{out}: want up to {num_bytes / 1e9:,.1f} GB, got {free / 1e9:,.1f} GB of free space; free some, choose "
            f"another folder, {advice}"
        )
