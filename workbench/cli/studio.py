"""``workbench app`` and ``demo``: the studio in the browser."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import urlsplit

import tyro

from workbench.cli.command import command
from workbench.cli.terminal import RUNS, SCENES, notes
from workbench.config import RunConfig
from workbench.errors import ConfigError
from workbench.presets import PRESETS
from workbench.runs import Run, list_runs, shipped, start_worker

if TYPE_CHECKING:
    from workbench.views.studio import Services


@dataclass(frozen=True, kw_only=True)
class StudioOptions:
    """Options of the studio."""

    runs: Path = RUNS
    """Folder of your runs; the shipped runs are shown too."""
    scenes: Path = SCENES
    """Folder of your scenes; the shipped scenes are shown too."""
    save_scenes: bool = False
    """Allow visitors to save results of uploaded videos in the folder of scenes."""
    port: int | None = None
    """Port of the server; by default GRADIO_SERVER_PORT, or the first free one from 7860."""
    host: str = ""
    """Address to listen on; by default GRADIO_SERVER_NAME, or 127.0.0.1. Any other requires --auth or --public."""
    name: tuple[str, ...] = ()
    """Further host names of the studio, where other computers can connect."""
    auth: str = ""
    """USER:PASSWORD required to log in, or a file with one such line per user, which hides them from process lists."""
    public: bool = False
    """Accept all visitors without a password; they cannot train or stop runs. The default in a Hugging Face Space."""
    browser: bool = True
    """Open a browser window."""


Options = Annotated[StudioOptions, tyro.conf.arg(name="")]
DEFAULTS = StudioOptions()


@command
def app(options: Options = DEFAULTS) -> int:
    """Open the studio in the browser: compare videos, train, follow runs, upscale your own videos.

    Example: `workbench app --port 7861 --no-browser`
    """
    return _serve(options)


@command
def demo(options: Options = DEFAULTS) -> int:
    """Open the studio and start a two-minute distillation to watch.

    Example: `workbench demo`
    """
    return _serve(options, with_demo=True)


def _serve(options: StudioOptions, *, with_demo: bool = False) -> int:
    host = options.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port, space = options.port or _port(), os.environ.get("SPACE_HOST", "")
    public = not options.auth and (options.public or bool(space))
    for variable in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH", "SPACE_HOST"):
        if value := os.environ.get(variable):
            notes.print(f"{variable}={value}", markup=False)

    def start_demo() -> str:
        from workbench.devices import available_cores
        from workbench.training.worker import prepare_run

        threads = max(1, available_cores() - 1)  # one core remains for the browser
        folder = options.runs / time.strftime("demo-%Y%m%d-%H%M%S")
        config = replace(PRESETS["demo"](), threads=threads, teacher_cache_dir=str(folder / "teacher_cache"))
        run = prepare_run(folder, config)
        start_worker(run)
        return run.name

    auth = read_auth(options.auth) if options.auth else None
    if public and with_demo:
        raise ConfigError("public: visitors cannot train, so there is no live demo; use `workbench app --public`")
    if public:
        notes.print(f"everybody who can reach {host} can use the studio without a password, and cannot train")
    if with_demo:
        notes.print("1 of 2: the studio starts in about ten seconds, on the shipped scenes; nothing is downloaded")
    from workbench.views import studio  # after the notes, since it takes seconds

    has_display = bool(os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32"))
    blocks, url = studio.launch(
        runs=[
            *([Path(os.devnull)] if public else []),
            options.runs,
            shipped("runs"),
        ],  # only the first is not read-only
        scenes=[options.scenes, shipped("scenes")],
        services=_without_training(_services(start_demo)) if public else _services(start_demo),
        save_scenes=options.save_scenes,
        host=host,
        names=(*options.name, *([space] if space else [])),
        port=port,
        auth=auth,
        public=public,
        frame_ancestors=["https://huggingface.co"] if space else [],
        inbrowser=options.browser and has_display,
    )
    notes.print(f"open {url} in a browser on this machine; Ctrl-C ends the app, never a run")
    if not has_display and host in ("127.0.0.1", "localhost"):
        forward = f"ssh -L {(at := urlsplit(url).port or 80)}:127.0.0.1:{at} HOST"
        notes.print(f"from another machine: {forward}, with the name of this machine as HOST; then open {url} there")
    if with_demo:  # last, since it imports torch, which takes seconds
        notes.print("2 of 2: a live distillation of two minutes, then it ends by itself; see the page Run")
        name, where = start_demo(), "" if options.runs == RUNS else f" --runs {options.runs}"
        stop = f"to stop it: Stop on the page Run, or workbench stop {name}{where}"
        notes.print(f"its files: {options.runs / name}, up to 120 MB; {stop}", markup=False)
    Thread(target=_names, daemon=True).start()  # the Train page needs them, and torch takes seconds to import
    blocks.block_thread()
    return 0


def _port() -> int | None:
    """Return the port of the variable ``GRADIO_SERVER_PORT``, or None.

    Raises:
        ConfigError: it is not a number.
    """
    given = os.environ.get("GRADIO_SERVER_PORT", "")
    if given and not given.isdecimal():
        raise ConfigError(f"GRADIO_SERVER_PORT: want a port such as 7860, got {given!r}")
    return int(given) if given else None


def _without_training(services: Services) -> Services:
    """Return services that refuse to train, and to measure a training, for visitors without a password."""

    def refuse(*_: object) -> NoReturn:
        raise ConfigError("this studio is open to everybody, so it does not train; install the workbench to train")

    return replace(
        services,
        start=refuse,
        prepare=refuse,
        command=lambda kind: refuse() if kind == "estimate" else services.command(kind),
    )


def read_auth(given: str) -> dict[str, str]:
    """Return the passwords by user from ``USER:PASSWORD``, or from a file with one such line per user.

    Raises:
        ConfigError: neither of them, an empty name or password, or a repeated name. No message contains a password.

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
            raise ConfigError(f"auth: {where}want USER:PASSWORD with neither empty")
        if user in users:
            raise ConfigError(f"auth: {where}the user {user[:40]!r} occurs twice; remove one of the lines")
        users[user] = password
    if not users:
        raise ConfigError("auth: want at least one line USER:PASSWORD, got an empty file")
    return users


def _services(start: Callable[[], str]) -> Services:
    """Return the services of the studio; torch is imported when one of them is first used."""
    from workbench.cli.studio_work import command_line
    from workbench.views.studio import Services

    def prepare(folder: Path, config: RunConfig) -> Run:
        from workbench.evaluation.methods import check_run_name
        from workbench.training.worker import prepare_run

        check_run_name(folder.name)
        return prepare_run(folder, config)

    return Services(start=start, prepare=prepare, names=_names, command=command_line, methods=_methods)


@cache
def _methods() -> dict[str, str]:
    """Return the labels of the shipped upscaling methods by name."""
    from workbench.evaluation.methods import ALIASES

    return {"bicubic": "Bicubic (no network)"} | {name: label for name, (_, label) in ALIASES.items()}


@cache
def _names() -> dict[str, list[str]]:
    """Return the known values of settings that are names."""
    from workbench.data.datasets.samples import SAMPLES
    from workbench.data.degradation.families import DEGRADATIONS
    from workbench.models.weights import pretrained_names
    from workbench.models.zoo import NETWORKS

    weights = [f"pretrained:{name}" for name in pretrained_names() if not name.endswith(("memory", "flow"))]
    roles = ("student", "teacher", "plain")
    names = {f"{role}.name": sorted(NETWORKS) for role in roles}
    names |= {f"{role}.weights": weights for role in roles}
    names |= {f"{role}.flow_weights": ["pretrained:flow"] for role in roles}
    plain = [name for name in list_runs(shipped("runs")) if not Run(shipped("runs") / name).config().teacher.name]
    names["plain_run"] = [f"pretrained:{name}" for name in plain]
    return names | {
        "data.degradation": list(DEGRADATIONS),
        "data.validation_clip": list(SAMPLES),
    }
