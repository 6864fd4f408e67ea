"""What the studio cannot do itself, since it imports no torch: handed in by the command that opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.config import RunConfig
from workbench.runs import Run


@dataclass(frozen=True, kw_only=True)
class Services:
    """Functions and commands from the floors above.

    Attributes:
        prepare: checks a config and lays out its run folder, or raises what is wrong in words.
        names: what may be chosen for a setting that is a name, by setting: ``{"student.name": [...], ...}``.
        command: kind of a job (``"estimate"``, ``"enlarge"``, ``"speed"``) -> the command line that
            does it; see :mod:`workbench.views.studio.jobs` for how it is spoken with.
        methods: what a video can be enlarged by, besides the user's runs: name -> what a person reads.
    """

    prepare: Callable[[Path, RunConfig], Run]
    names: Callable[[], Mapping[str, Sequence[str]]]
    command: Callable[[str], Sequence[str]]
    methods: Callable[[], Mapping[str, str]]
