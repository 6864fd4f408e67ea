"""Command line: the commands of ``workbench``.

Torch takes seconds to import, so each command imports it, and the modules that need it, when it runs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from workbench import __version__
from workbench.cli.benching import bench
from workbench.cli.experimenting import experiment
from workbench.cli.exporting import export
from workbench.cli.figures import plot_tradeoff
from workbench.cli.flow import flow
from workbench.cli.footage import degrade, prepare, samples
from workbench.cli.networks import convert, networks
from workbench.cli.reporting import report
from workbench.cli.scoring import compare, evaluate
from workbench.cli.studio import app, demo
from workbench.cli.terminal import PIPE_CLOSED, discard_output, notes, output_closed, replace_unencodable
from workbench.cli.training import follow, runs, stop, train, tune
from workbench.cli.uploading import upload
from workbench.cli.upscaling import upscale
from workbench.errors import WorkbenchError, unknown_name

__all__ = ["COMMANDS", "main"]


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "app": app,
    "train": train,
    "tune": tune,
    "runs": runs,
    "follow": follow,
    "stop": stop,
    "compare": compare,
    "report": report,
    "evaluate": evaluate,
    "flow": flow,
    "networks": networks,
    "plot-tradeoff": plot_tradeoff,
    "experiment": experiment,
    "upscale": upscale,
    "export": export,
    "bench": bench,
    "convert": convert,
    "upload": upload,
    "samples": samples,
    "degrade": degrade,
    "prepare": prepare,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``workbench`` command and return its exit status."""
    replace_unencodable()
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return PIPE_CLOSED


def _run(argv: Sequence[str] | None) -> int:
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: workbench COMMAND [OPTIONS]     (workbench COMMAND --help lists its options)\n")
        for command, function in COMMANDS.items():
            print(f"  {command:<14} {(function.__doc__ or '').splitlines()[0]}")
        return 0
    if name == "--version":
        print(f"workbench {__version__}")
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        return COMMANDS[name](rest)
    except (WorkbenchError, FloatingPointError) as error:
        notes.print(f"error: {error}", style="red", markup=False)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and output_closed():
            raise
        notes.print(f"error: {error.strerror or error}: {error.filename or ''}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        notes.print("interrupted")
        return 130
