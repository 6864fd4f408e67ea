"""``workbench app`` and ``demo``: the studio in the browser."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from workbench.cli.terminal import RUNS, SCENES, notes
from workbench.config import PRESETS, RunConfig
from workbench.runs import shipped, start_worker


def launch_app(args: Sequence[str] | None = None, *, demo: bool = False) -> int:
    """Open the studio in the browser; with ``demo`` a two-minute distillation starts and is followed."""

    def command(
        *,
        runs: Path = RUNS,
        scenes: Path = SCENES,
        port: int | None = None,
        host: str = "127.0.0.1",
        user: str = "",
        password: str = "",
        browser: bool = True,
    ) -> int:
        """Open the studio: compare videos side by side, follow runs.

        Args:
            runs: the folder that holds your runs; those that ship are shown too.
            scenes: the folder that holds your scenes; those that ship are shown too.
            port: a free one from 7860 on where it is left out.
            host: who may connect; anything but 127.0.0.1 needs a user and a password.
            user: asked for before anything is shown.
            password: the same.
            browser: open a browser window.
        """
        from workbench.views import studio

        def start_demo() -> str:
            from workbench.training.worker import prepare_run

            run = prepare_run(runs / time.strftime("demo-%Y%m%d-%H%M%S"), _demo_config())
            start_worker(run)
            return run.name

        if demo:
            notes.print(f"{start_demo()}: two minutes of live distillation, on the Run page")
        auth = (user, password) if user else None
        blocks, url = studio.launch(
            runs=[runs, shipped("runs")],
            scenes=[scenes, shipped("scenes")],
            start=start_demo,
            host=host,
            port=port,
            auth=auth,
            inbrowser=browser and bool(os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")),
            quiet=True,
            wait=False,
        )
        notes.print(f"open {url} in a browser on this machine; Ctrl-C ends the app, never a run")
        blocks.block_thread()
        return 0

    prog = "workbench demo" if demo else "workbench app"
    return tyro.cli(command, args=sys.argv[1:] if args is None else list(args), prog=prog)


def _demo_config() -> RunConfig:
    """The demo leaves one core to the browser, which wants to be watched meanwhile."""
    return replace(PRESETS["demo"](), threads=max(1, (os.cpu_count() or 2) - 1))


def app(args: Sequence[str]) -> int:
    """Open the studio in the browser."""
    return launch_app(args)


def demo(args: Sequence[str]) -> int:
    """Open the studio, and start a two-minute distillation to watch."""
    return launch_app(args, demo=True)
