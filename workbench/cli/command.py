"""Decorator that makes a function a command of ``workbench``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tyro


def command(function: Callable[..., int]) -> Callable[[Sequence[str]], int]:
    """Return a function of command-line arguments that parses them and calls ``function``.

    The parameters of ``function`` are the options, its docstring is the help: the first line is also the description in
    ``workbench --help``, and each entry of ``Args`` describes an option.
    """

    @functools.wraps(function)
    def run(args: Sequence[str]) -> int:
        return tyro.cli(function, args=list(args), prog=f"workbench {function.__name__.replace('_', '-')}")

    return run
