"""Functions and commands that need networks: the studio imports no torch, so the command line passes them in."""

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
        start: function that starts a short run in the user's own folder and returns its name.
        prepare: function that checks a config and writes its run folder.
        names: function that returns the valid names of settings: ``{"student.name": [...], ...}``.
        command: function from the kind of a job (``"estimate"``, ``"upscale"``, ``"speed"``) to its command line; see
            :mod:`workbench.views.studio.job_queue`.
        methods: function that returns the labels of the upscaling methods, without the user's runs, by name.
    """

    start: Callable[[], str]
    prepare: Callable[[Path, RunConfig], Run]
    names: Callable[[], Mapping[str, Sequence[str]]]
    command: Callable[[str], Sequence[str]]
    methods: Callable[[], Mapping[str, str]]
