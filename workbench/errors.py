"""What goes wrong, in words: what was wanted, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Base of every error that is meant for a person; the command line prints it without a traceback."""


class ShapeError(WorkbenchError, ValueError):
    """A tensor or clip has the wrong axes, size or type."""


class ConfigError(WorkbenchError, ValueError):
    """A setting is unknown or impossible."""


class VideoError(WorkbenchError, ValueError):
    """A file is not a video that can be read, or not whole."""


class DataError(WorkbenchError, ValueError):
    """A data set is missing something, or is not what it says."""


class FolderError(WorkbenchError, ValueError):
    """A run or scene folder is missing, half written or of another format."""


class WeightsError(WorkbenchError, ValueError):
    """A weight file belongs to another network, or is damaged."""


class ResultError(WorkbenchError, FloatingPointError):
    """What a network returned is no picture: it holds NaN or infinity.

    Attributes:
        frame: the first such frame, counted from the first of the frames that were looked at.
    """

    def __init__(self, message: str, frame: int = 0) -> None:
        super().__init__(message)
        self.frame = frame


class BusyError(WorkbenchError, RuntimeError):
    """Somebody else is already at work here."""


class OutOfMemory(WorkbenchError, MemoryError):  # noqa: N818 - as torch and Python call theirs
    """There is no memory for what was asked; the message says what to make smaller."""


class LoaderError(WorkbenchError, RuntimeError):
    """A process that prepares training crops has ended; the training can be resumed."""


class UnknownNameError(WorkbenchError, KeyError):
    """A name that is not in a literal list; the message suggests the nearest one."""

    def __str__(self) -> str:  # KeyError would print the message in quotes
        return str(self.args[0])


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """An error for a name that is not among ``known``, with the nearest suggestion.

    Args:
        kind: what the name should have been, for example ``"network"``.
        name: what came.
        known: the names there are.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> print(unknown_name("network", "vespcm", ["edvr_l", "vespcn"]))
        no network 'vespcm'; did you mean 'vespcn'? There are: edvr_l, vespcn
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return UnknownNameError(f"no {kind} {name!r}{hint} There are: {', '.join(names)}")
