"""The pages put together, and served."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gradio.components.navbar import Navbar
from gradio.themes import Base
from starlette.middleware import Middleware

from workbench.errors import BusyError, ConfigError
from workbench.views.studio.arriving import routes
from workbench.views.studio.compare import compare_page
from workbench.views.studio.desk import Desk, Room
from workbench.views.studio.folders import Studio
from workbench.views.studio.guard import LOOPBACK, Guard
from workbench.views.studio.jobs import Jobs
from workbench.views.studio.networks import Networks, networks_page
from workbench.views.studio.page import Pages
from workbench.views.studio.run import run_page
from workbench.views.studio.runs import Runs, runs_page
from workbench.views.studio.services import Services
from workbench.views.studio.train import Train, train_page
from workbench.views.studio.video import Videos, video_page

PEOPLE = ".people"
"""In the user's own folder of scenes: what those who log in brought, and what was made of it."""

# Gradio confines the style sheet to what lies inside the margins that this narrows.
NARROW = (
    "<style>@media (max-width: 640px) { .gradio-container .main.fillable { padding: 8px 12px !important; } }</style>"
)


def build_studio(
    *,
    runs: Sequence[Path],
    scenes: Sequence[Path],
    start: Callable[[], str] | None = None,
    services: Services | None = None,
    room: Room | None = None,
    private: bool = False,
) -> Pages:
    """The pages, not yet served.

    Args:
        runs: folders that hold runs; the first is the user's own, the others (shipped ones) are only looked at.
        scenes: folders that hold scenes; likewise.
        start: starts a short run in the user's own folder and returns its name; a button for it is on the Run page.
        services: what needs networks; None: the studio is only for looking.
        room: how much of other people's videos there is room for.
        private: people log in, and see only their own videos; these outlive the studio, in the hidden folder
            :data:`PEOPLE` of the first folder of scenes, where there is one.

    Returns:
        The Blocks; serve them with :func:`launch`, which also serves the pictures.

    Raises:
        BusyError: people log in, and another studio is open on the same folder.
    """
    jobs = Jobs(after=lambda job: desk.tidy(working=not job.began))  # one that never began leaves another at work
    desk = Desk(
        room,
        wanted=lambda: [job.order["file"] for job in jobs.known("enlarge") if not job.over],
        lasting=Path(scenes[0]) / PEOPLE if private and scenes else None,
        shelf=Path(scenes[0]) if scenes and not private else None,
    )
    studio = Studio(runs=runs, scenes=scenes, own=desk.scenes, owns=desk.owns)
    with Pages(title="Workbench", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as app:
        Navbar(main_page_name="Compare")
        compare_page(app, studio)
    with app.route("Run", "/run"):
        Navbar(main_page_name="Compare")
        run_page(app, studio, start)
    with app.route("Train", "/train"):
        Navbar(main_page_name="Compare")
        train_page(app, Train(studio, jobs, services))
    with app.route("Runs", "/runs"):
        Navbar(main_page_name="Compare")
        runs_page(app, Runs(studio))
    with app.route("Your video", "/video"):
        Navbar(main_page_name="Compare")
        video_page(app, Videos(studio, desk, jobs, services))
    with app.route("Networks", "/networks"):
        Navbar(main_page_name="Compare")
        networks_page(app, Networks(jobs, services))
    app.own(studio, [studio.gallery.route(), *routes(desk)], [jobs.close, desk.close])
    return app


def check_port(host: str, port: int | None) -> None:
    """Make sure that a server can listen there.

    Args:
        host: the address to listen on.
        port: None: any that is free, so there is nothing to check.

    Raises:
        ConfigError: no such port or host.
        BusyError: the port is taken, or needs further rights.
    """
    if port is None:
        return
    if not 1 <= port <= 65535:
        raise ConfigError(f"port: want 1 to 65535, got {port}")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            if os.name == "posix":  # a port that was just let go is free; on Windows the option would share one in use
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except socket.gaierror as error:
        raise ConfigError(f"host: want a name or address of this computer, got {host!r} ({error.strerror})") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"host: want a name or address of this computer, got {host!r}") from error
        raise BusyError(
            f"port: {port} on {host} cannot be used ({error.strerror}); name another one with --port, or leave --port "
            "out: the first free one from 7860 on is taken"
        ) from error


def launch(
    *,
    runs: Sequence[Path],
    scenes: Sequence[Path],
    start: Callable[[], str] | None = None,
    services: Services | None = None,
    room: Room | None = None,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    port: int | None = None,
    auth: Mapping[str, str] | None = None,
    inbrowser: bool = False,
    quiet: bool = False,
    wait: bool = True,
) -> tuple[Pages, str]:
    """Serve the studio.

    Args:
        runs: folders that hold runs, the user's own first.
        scenes: folders that hold scenes, the user's own first.
        start: see :func:`build_studio`.
        services: see :func:`build_studio`.
        room: see :func:`build_studio`.
        host: who may connect; only this computer unless said otherwise.
        names: further names under which browsers may ask for it, where other computers can connect.
        port: None: the first free one from 7860 on.
        auth: user -> password, asked for before anything is shown; needed where other computers can connect. Videos and
            what is made of them are then seen by those alone who brought them.
        inbrowser: open a browser.
        quiet: do not print the address.
        wait: return only when the server is stopped (Ctrl-C).

    Returns:
        The Blocks (``close()`` stops the server) and the address.

    Raises:
        ConfigError: other computers could connect, and there is no password.
        BusyError: the port is taken, or there are passwords, and another studio with passwords is open on the same
            scenes.
    """
    if host not in LOOPBACK and not auth:
        raise ConfigError(f"host {host}: other computers could stop your runs; give a user and a password too")
    check_port(host, port)
    app = build_studio(runs=runs, scenes=scenes, start=start, services=services, room=room, private=bool(auth))
    styles = [Path(__file__).parents[1] / "lens" / "studio.css", Path(__file__).parent / "pages.css"]
    try:
        _, url, _ = app.launch(
            server_name=host,
            server_port=port,
            auth=list(auth.items()) if auth else None,
            inbrowser=inbrowser,
            quiet=quiet,
            prevent_thread_lock=True,
            share=False,
            run_history=False,
            footer_links=["settings"],
            max_file_size="1mb",  # what people bring comes another way, see video.py
            app_kwargs={
                "routes": app.further_routes,
                "middleware": [Middleware(Guard, host=host, names=tuple(names))],
            },
            theme=Base(primary_hue="blue", neutral_hue="slate").set(body_text_color_subdued="*neutral_500"),
            head=NARROW,
            css_paths=styles,
        )
    except OSError as error:
        app.let_go()  # the folder of people's videos is free for the next try
        raise BusyError(
            f"port: want a free one on {host}, got {port or 'none from 7860 on'} ({error}); name another one: --port"
        ) from error
    if wait:
        app.block_thread()
    return app, url
