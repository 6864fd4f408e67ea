"""The studio: all pages, and their server."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradio.components.navbar import Navbar
from gradio.themes import Base
from starlette.middleware import Middleware

from workbench.errors import BusyError, ConfigError
from workbench.views.studio.compare import compare_page
from workbench.views.studio.folders import Studio
from workbench.views.studio.job_queue import JobQueue
from workbench.views.studio.networks import Networks, networks_page
from workbench.views.studio.page import IMMEDIATE, Pages
from workbench.views.studio.request_filter import LOOPBACK, RequestFilter
from workbench.views.studio.run import run_page
from workbench.views.studio.runs import Runs, runs_page
from workbench.views.studio.services import Services
from workbench.views.studio.sessions import BrowserSessions
from workbench.views.studio.train import Train, train_page
from workbench.views.studio.upload_routes import upload_routes
from workbench.views.studio.upload_store import Quota, UploadStore
from workbench.views.studio.video import Videos, video_page

# Gradio scopes the style sheets to the inside of the margins that this rule reduces.
PHONE_MARGINS = (
    "<style>@media (max-width: 640px) { .gradio-container .main.fillable { padding: 8px 12px !important; } }</style>"
)


def build_studio(
    *,
    runs: Sequence[Path],
    scenes: Sequence[Path],
    services: Services,
    quota: Quota | None = None,
    save_scenes: bool = False,
) -> Pages:
    """Build the pages, without a server.

    Args:
        runs: folders of runs; the first is the user's own, the others (shipped runs) are read-only.
        scenes: folders of scenes; the first is the user's own.
        services: functions and commands that need networks.
        quota: upper limits for uploads and results.
        save_scenes: allow visitors to save a result as a scene in the first folder of scenes.

    Returns:
        The Blocks; serve them with :func:`launch`, which also serves the images.
    """
    queue = JobQueue(after=lambda job: store.clean(is_working=job.process is None))  # another job may be running
    store = UploadStore(
        quota,
        in_use=lambda: [job.request["file"] for job in queue.jobs("upscale") if not job.finished],
        saved_scenes=Path(scenes[0]) if scenes and save_scenes else None,
    )

    def end_session(session: str) -> None:
        queue.cancel_session(session)
        store.end_session(session)

    sessions = BrowserSessions(end_session)
    studio = Studio(runs=runs, scenes=scenes, results=store.scenes, owns=store.owns)

    def add_page(layout: Callable[..., None], *args: Any) -> None:
        Navbar(main_page_name="Compare")
        app.load(sessions.open_page, None, None, **IMMEDIATE)
        layout(app, *args)

    with Pages(title="Workbench", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as app:
        add_page(compare_page, studio)
        app.unload(sessions.close_page)
    for title, path, layout, *args in (
        ("Run", "/run", run_page, studio, services.start),
        ("Train", "/train", train_page, Train(studio, queue, services)),
        ("Runs", "/runs", runs_page, Runs(studio)),
        ("Your video", "/video", video_page, Videos(studio, store, queue, services)),
        ("Networks", "/networks", networks_page, Networks(queue, services)),
    ):
        with app.route(title, path):
            add_page(layout, *args)
    routes = [studio.files.route(), *upload_routes(store, sessions.is_open)]
    app.studio, app.store, app.sessions = studio, store, sessions
    app.own(routes, [sessions.close, queue.close, store.close])
    return app


def check_port(host: str, port: int | None) -> None:
    """Check that a server can listen on a port.

    Args:
        host: address to listen on.
        port: None: any free port, nothing to check.

    Raises:
        ConfigError: no such port or host.
        BusyError: the port is in use, or needs more rights.
    """
    if port is None:
        return
    if not 1 <= port <= 65535:
        raise ConfigError(f"port: want 1 to 65535, got {port}")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            if os.name == "posix":  # accept a port that was just closed; on Windows the option would share one in use
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"host: want a name or address of this computer, got {host!r}") from error
        raise BusyError(
            f"port: {port} on {host} cannot be used ({error.strerror}); choose another one with --port, or omit --port "
            "to use the first free one from 7860"
        ) from error


def launch(
    *,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    port: int | None = None,
    auth: Mapping[str, str] | None = None,
    public: bool = False,
    frame_ancestors: Sequence[str] = (),
    inbrowser: bool = False,
    **studio: Any,
) -> tuple[Pages, str]:
    """Serve the studio.

    Args:
        host: address to listen on; only this computer can connect to the default.
        names: further host names of the studio, where other computers can connect.
        port: None: the first free one from 7860.
        auth: password by user, needed where other computers can connect.
        public: allow other computers to connect without a password.
        frame_ancestors: origins of other sites that may show the studio in a frame.
        inbrowser: open a browser.
        studio: arguments of :func:`build_studio`.

    Returns:
        The Blocks, while the server runs in another thread, and the address; ``close()`` stops the server.

    Raises:
        ConfigError: other computers could connect without a password.
        BusyError: the port is in use.
    """
    if host not in LOOPBACK and not auth and not public:
        raise ConfigError(f"host {host}: other computers could stop your runs; set a user and a password")
    check_port(host, port)
    app = build_studio(**studio)
    try:
        _, url, _ = app.launch(
            server_name=host,
            server_port=port,
            auth=list(auth.items()) if auth else None,
            inbrowser=inbrowser,
            quiet=True,
            prevent_thread_lock=True,
            share=False,
            run_history=False,
            footer_links=["settings"],
            max_file_size="1mb",  # videos are uploaded by another route, see upload_routes.py
            app_kwargs={
                "routes": app.routes,
                "middleware": [
                    Middleware(RequestFilter, host=host, names=tuple(names), frame_ancestors=tuple(frame_ancestors))
                ],
            },
            theme=Base(primary_hue="blue", neutral_hue="slate").set(body_text_color_subdued="*neutral_500"),
            head=PHONE_MARGINS,
            css_paths=[Path(__file__).parents[1] / "lens" / "tables.css", Path(__file__).parent / "pages.css"],
        )
    except OSError as error:
        app.release()
        raise BusyError(
            f"port: want a free one on {host}, got {port or 'none from 7860'} ({error}); choose one with --port"
        ) from error
    return app, url
