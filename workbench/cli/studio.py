"""``workbench app`` and ``demo``: the studio in the browser."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import tyro

from workbench.cli.terminal import RUNS, SCENES, notes
from workbench.config import PRESETS, RunConfig
from workbench.errors import ConfigError
from workbench.runs import Run, list_runs, shipped, start_worker


def launch_app(args: Sequence[str] | None = None, *, demo: bool = False) -> int:
    """Open the studio in the browser; with ``demo`` a two-minute distillation starts and is followed."""

    def command(
        *,
        runs: Path = RUNS,
        scenes: Path = SCENES,
        port: int | None = None,
        host: str = "127.0.0.1",
        name: tuple[str, ...] = (),
        auth: str = "",
        browser: bool = True,
    ) -> int:
        """Open the studio: compare videos side by side, train, follow runs.

        Args:
            runs: the folder that holds your runs; those that ship are shown too.
            scenes: the folder that holds your scenes; those that ship are shown too.
            port: a free one from 7860 on where it is left out.
            host: who may connect; anything but 127.0.0.1 needs --auth.
            name: further names under which browsers may ask for it, where other computers may connect.
            auth: USER:PASSWORD, asked for before anything is shown; or a file with such a line for each person, which
                others on this machine cannot read in the list of processes. Everybody sees only their own videos.
            browser: open a browser window.
        """
        from workbench.views import studio

        def start_demo() -> str:
            from workbench.training.worker import prepare_run

            run = prepare_run(runs / time.strftime("demo-%Y%m%d-%H%M%S"), _demo_config())
            start_worker(run)
            return run.name

        studio.check_port(host, port)  # before the demo begins a run
        if demo:
            notes.print(f"{start_demo()}: two minutes of live distillation, on the Run page")
        blocks, url = studio.launch(
            runs=[runs, shipped("runs")],
            scenes=[scenes, shipped("scenes")],
            start=start_demo,
            services=_services(),
            host=host,
            names=name,
            port=port,
            auth=read_auth(auth) if auth else None,
            inbrowser=browser and bool(os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")),
            quiet=True,
            wait=False,
        )
        Thread(
            target=_names, daemon=True
        ).start()  # torch takes seconds to import; the Train page shall not wait for it
        notes.print(f"open {url} in a browser on this machine; Ctrl-C ends the app, never a run")
        blocks.block_thread()
        return 0

    prog = "workbench demo" if demo else "workbench app"
    return tyro.cli(command, args=sys.argv[1:] if args is None else list(args), prog=prog)


def read_auth(given: str) -> dict[str, str]:
    """Users and their passwords from ``USER:PASSWORD``, or from a file with a line of it for each.

    Raises:
        ConfigError: it is neither, a name or a password is empty, or a name is there twice. No password is repeated.

    Example:
        >>> read_auth("me:a:b")
        {'me': 'a:b'}
    """
    lines, users = [given], {}
    if ":" not in given or Path(given).is_file():
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("auth: want USER:PASSWORD, or a file of such lines") from error
    for number, line in enumerate(lines, 1):
        user, _, password = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        where = f"line {number}: " if len(lines) > 1 else ""
        if not (user and password):
            raise ConfigError(f"auth: {where}want USER:PASSWORD, and neither may be empty")
        if user in users:
            raise ConfigError(f"auth: {where}the user {user[:40]!r} is there already; every name once")
        users[user] = password
    if not users:
        raise ConfigError("auth: want USER:PASSWORD, and nobody is named")
    return users


def _services() -> Any:
    """What the studio cannot do itself; torch is imported when something of it is first asked for."""
    from workbench.cli.studio_work import command
    from workbench.views.studio import Services

    def prepare(folder: Path, config: RunConfig) -> Run:
        from workbench.training.worker import prepare_run

        return prepare_run(folder, config)

    return Services(prepare=prepare, names=_names, command=command, methods=_methods)


@cache
def _methods() -> dict[str, str]:
    """What a video can be enlarged by: the networks that ship."""
    from workbench.evaluation.compare import ALIASES

    return {"bicubic": "Bicubic (no network)"} | {name: label for name, (_, label) in ALIASES.items()}


@cache
def _names() -> dict[str, list[str]]:
    """Names that settings can have."""
    from workbench.data.datasets.samples import samples
    from workbench.data.degradation.families import DEGRADATIONS
    from workbench.models.weights import pretrained_names
    from workbench.models.zoo import NETWORKS

    weights = [f"pretrained:{name}" for name in pretrained_names() if not name.endswith(("memory", "flow"))]
    chosen = {f"{role}.name": sorted(NETWORKS) for role in ("student", "teacher", "plain")}
    chosen |= {f"{role}.weights": weights for role in ("student", "teacher", "plain")}
    chosen |= {f"{role}.flow_weights": ["pretrained:flow"] for role in ("student", "teacher", "plain")}
    clips = [sample.name for sample in samples()]
    plain = [name for name in list_runs(shipped("runs")) if not Run(shipped("runs") / name).config().teacher.name]
    chosen["plain_run"] = [f"pretrained:{name}" for name in plain]
    return chosen | {"data.degradation": list(DEGRADATIONS), "data.validation_clip": clips}


def _demo_config() -> RunConfig:
    """The demo leaves one core to the browser, which wants to be watched meanwhile."""
    return replace(PRESETS["demo"](), threads=max(1, (os.cpu_count() or 2) - 1))


def app(args: Sequence[str]) -> int:
    """Open the studio in the browser."""
    return launch_app(args)


def demo(args: Sequence[str]) -> int:
    """Open the studio, and start a two-minute distillation to watch."""
    return launch_app(args, demo=True)
