"""Error classes; each message has the field, the value, the expected value, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import get_args


class WorkbenchError(Exception):
    """Base of all errors of this package; the command line prints them without a traceback."""


class ShapeError(WorkbenchError, ValueError):
    """Tensor or clip with wrong axes, size or type."""


class ConfigError(WorkbenchError, ValueError):
    """Unknown or impossible setting."""


class VideoError(WorkbenchError, ValueError):
    """File that is no readable video, or incomplete."""


class DataError(WorkbenchError, ValueError):
    """Dataset that is incomplete or inconsistent."""


class FolderError(WorkbenchError, ValueError):
    """Run or scene folder that is missing, incomplete or of another format."""


class WeightsError(WorkbenchError, ValueError):
    """Weight file that is damaged, or of another network."""


class ResultError(WorkbenchError, FloatingPointError):
    """Output of a network with NaN or infinity.

    Args:
        reason: the defect, without its place.
        frame: index of the first such frame.
        place: frame and clip, or another place of the defect; the frame by default.
    """

    def __init__(self, reason: str, frame: int = 0, place: str = "") -> None:
        super().__init__(f"{place or f'frame {frame}'}: {reason}")
        self.reason, self.frame = reason, frame


class BusyError(WorkbenchError, RuntimeError):
    """Folder or file that another process is using."""


class OutOfMemory(WorkbenchError, MemoryError):  # noqa: N818 - as torch and Python call theirs
    """Lack of memory; the message names settings to reduce."""


class LoaderError(WorkbenchError, RuntimeError):
    """Process for training crops that has ended; the training can be resumed."""


class UnknownNameError(WorkbenchError, KeyError):
    """Name that is not in a list; the message suggests the nearest one."""

    def __str__(self) -> str:  # KeyError would print the message in quotes
        return str(self.args[0])


def require_at_least(least: float, **values: float) -> None:
    """Refuse numbers that are too small.

    Raises:
        ConfigError: names the first one.

    Example:
        >>> require_at_least(1, frames=3, rounds=0)
        Traceback (most recent call last):
        workbench.errors.ConfigError: rounds: want 1 or more, got 0
    """
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"{name}: want {least} or more, got {value}")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name that is not among ``known``, with the nearest suggestion.

    Args:
        kind: of the name, for example ``"network"``.
        name: unknown.
        known: valid names.

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


def check_choice(field: str, value: object, choices: object) -> None:
    """Check that the value of a field is one of the values of a ``Literal``.

    Raises:
        ConfigError: it is not.

    Example:
        >>> from typing import Literal
        >>> check_choice("side", "top", Literal["left", "right"])
        Traceback (most recent call last):
        workbench.errors.ConfigError: side: want one of left, right, got 'top'
    """
    if value not in get_args(choices):
        raise ConfigError(f"{field}: want one of {', '.join(get_args(choices))}, got {value!r}")
