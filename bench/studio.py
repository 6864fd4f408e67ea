"""What the studio bears: clients at once while a run trains, and one page with many pictures.

    python bench/studio.py [--clients 8] [--seconds 30] [--frames 100] [--sizes 512x288,1280x720] [--only load,page]

``load``: a studio in a process of its own, a real training beside it, and clients (threads over HTTP, no browser) that
do what pages do: change the frame (two pictures, one after the other, none of them cached), follow the run, and after
every ten changes upload a small clip and ask for it to be enlarged, which another process does. An error is every
answer but what was asked for and 'so many jobs wait already', which is how the studio says that its line is full; and
every clip that was taken into the line and did not become a scene.

``page``: one headless chromium without a GPU, an upper bound. From the start of the studio to the first picture on the
canvas; changes of the frame, cold (never asked for) and warm (in the lens's cache); what the page weighs after all
frames of five methods were shown. Nothing trains meanwhile.

The scenes are made of arithmetic and grain. Everything lies in a temporary folder. Prints one table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from lens_speed import METHODS, renderer_mib, write

from workbench.config import PRESETS
from workbench.data.video.write import VideoWriter
from workbench.runs import Run, request_stop, start_worker
from workbench.training.worker import prepare_run

FULL = "jobs wait already"
UPLOAD_EVERY = 10
LENS = "document.querySelector('.lens').lens"
Table = list[tuple[str, str]]


@contextmanager
def studio(home: Path, scenes: Path) -> Iterator[tuple[str, float]]:
    """A studio in a process of its own: its address, and when it was started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start, url = time.perf_counter(), f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-c", "import sys; from workbench.cli import main; sys.exit(main())", "app"]
    command += ["--runs", str(home / "runs"), "--scenes", str(scenes), "--port", str(port), "--no-browser"]
    with (home / "studio.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(home)})
    try:
        while True:
            try:
                httpx.get(url).raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None:
                    sys.exit(f"the studio ended:\n{(home / 'studio.log').read_text()}")
                time.sleep(0.05)
        yield url, start
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def training(home: Path) -> Iterator[Run]:
    """A run at work, until the end of the block."""
    run = prepare_run(home / "runs" / "trains", replace(PRESETS["demo"](), stop_after_seconds=0, threads=1))
    start_worker(run)
    try:
        while not run.metrics():
            if not run.status().live and run.status().state not in ("queued", "running"):
                sys.exit(f"the training ended: {run.status().reason}")
            time.sleep(0.2)
        yield run
    finally:
        request_stop(run)
        while run.status().live:
            time.sleep(0.2)


# ------------------------------------------------------------------------------------------------------------ clients


@dataclass
class Seen:
    """What the clients saw, all together."""

    frame: list[float] = field(default_factory=list)
    follow: list[float] = field(default_factory=list)
    upload: list[float] = field(default_factory=list)
    taken: int = 0
    full: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def names_of(parts: list[int], names: dict[int, str | None]) -> list[str]:
    """The ids that some components have in the page."""
    return [name for name in map(names.get, parts) if name]


class Client:
    """A person with a page: the same requests, in the same order, without a browser."""

    def __init__(self, url: str, number: int, film: bytes, seen: Seen) -> None:
        self.web, self.random = httpx.Client(base_url=url, timeout=60), random.Random(number)
        self.session, self.film, self.seen = f"client{number}", film, seen
        config = self.web.get("config").json()
        names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        events = {
            (names.get(of), event): each["id"] for each in config["dependencies"] for of, event in each["targets"]
        }
        self.ask_event = events["video-sheet", "ask"]
        loads = [each for each in config["dependencies"] for _, event in each["targets"] if event == "load"]
        ticks = [each for each in config["dependencies"] for _, event in each["targets"] if event == "tick"]
        self.load_scene, self.load_run, self.tick_run = loads[0]["id"], loads[1]["id"], ticks[0]["id"]
        self.load_video = next(each["id"] for each in loads if names_of(each["outputs"], names) == ["video-sheet"])

    def event(self, number: int, data: list[Any], about: Any = None) -> list[Any]:
        """What an event of the pages answers."""
        body = {"fn_index": number, "data": data, "event_data": about, "session_hash": self.session}
        answer = self.web.post("gradio_api/run/predict", json=body)
        if answer.status_code != 200:
            raise httpx.HTTPError(answer.json().get("error") or f"status {answer.status_code}")
        return answer.json()["data"]

    def begin(self) -> None:
        """Open the page Compare and the page Run."""
        self.scene = self.event(self.load_scene, [])[1]
        self.run = self.event(self.load_run, [])[0]["value"]

    def change_frame(self) -> None:
        """Fetch two pictures of another frame."""
        index = self.random.randrange(self.scene["frames"])
        for method in self.random.sample(self.scene["methods"], 2):
            self.web.get(f"{method['frames']}/{index:05d}.webp").raise_for_status()

    def follow(self) -> None:
        """Ask once how the run stands."""
        self.event(self.tick_run, [self.run, None, None])

    def upload(self) -> str:
        """Bring the clip; its key."""
        answer = self.web.post("clips", content=self.film, headers={"X-Name": "a.mp4"})
        if answer.status_code != 200:
            raise httpx.HTTPError(answer.json().get("message") or f"status {answer.status_code}")
        return answer.json()["clip"]

    def ask(self, clip: str) -> None:
        """Have a clip enlarged, if there is room in the line."""
        part = {"frames": [0, 2], "region": [0, 0, 48, 64], "truth": False, "methods": ["bicubic"]}
        problem = self.event(self.ask_event, [], part | {"clip": clip})[0].get("problem", "")
        if FULL in problem:
            self.seen.full += 1
        elif problem:
            raise httpx.HTTPError(problem)
        else:
            self.seen.taken += 1

    def asked(self) -> dict[str, Any]:
        """What the page Your video shows: jobs that are not done, and results."""
        return self.event(self.load_video, [])[0]

    def timed(self, kept: list[float], act: Callable[[], Any]) -> Any:
        """Do something and keep its milliseconds, or count its error."""
        start = time.perf_counter()
        try:
            made = act()
        except httpx.HTTPError as error:
            self.seen.errors[f"{act.__name__}: {error or type(error).__name__}"] += 1
            return None
        kept.append(1000 * (time.perf_counter() - start))
        return made

    def work(self, until: float) -> None:
        """All of it, again and again."""
        try:
            self.begin()
        except httpx.HTTPError as error:
            self.seen.errors[f"begin: {error}"] += 1
            return
        changes = 0
        while time.perf_counter() < until:
            self.timed(self.seen.frame, self.change_frame)
            changes += 1
            if changes % UPLOAD_EVERY == 0:
                self.timed(self.seen.follow, self.follow)
                clip = self.timed(self.seen.upload, self.upload)
                if clip is not None:
                    self.timed([], lambda clip=clip: self.ask(clip))
            time.sleep(0.05)


def load(home: Path, options: argparse.Namespace) -> Table:
    """Clients at once, while a run trains."""
    width, height = options.sizes[0]
    write(home / "load" / "bench", min(options.frames, 40), height, width)
    with VideoWriter(home / "film.mp4", fps=25) as writer:
        for index in range(6):
            writer.write(
                np.roll(np.indices((48, 64)).sum(0)[..., None] % 32 * 7, index, 1).repeat(3, 2).astype(np.uint8)
            )
    film, seen = (home / "film.mp4").read_bytes(), Seen()
    with training(home) as run, studio(home, home / "load") as (url, _):
        clients = [Client(url, number, film, seen) for number in range(options.clients)]
        before, start = run.status().step, time.perf_counter()
        with ThreadPoolExecutor(options.clients) as pool:
            for done in [pool.submit(client.work, start + options.seconds) for client in clients]:
                done.result()
        seconds, steps = time.perf_counter() - start, run.status().step - before
        while any(not job["over"] for job in clients[0].asked()["jobs"]):
            time.sleep(0.5)
        for job in clients[0].asked()["jobs"]:
            seen.errors[f"a clip that was taken: {job['said']}"] += 1
    if seen.errors:
        print(f"errors: {dict(seen.errors)}", file=sys.stderr)
    return [
        (f"clients at once, for {seconds:.0f} s, while a run trains", str(options.clients)),
        ("errors other than 'queue full'", str(sum(seen.errors.values()))),
        (f"clips uploaded; taken into the line; told '{FULL}'", f"{len(seen.upload)}; {seen.taken}; {seen.full}"),
        (f"frame changes (two pictures of {width}x{height})", str(len(seen.frame))),
        ("a frame change: median, 95 %", spread(seen.frame)),
        ("an answer to a page that follows the run: median, 95 %", spread(seen.follow)),
        (
            "an upload of 3 kB, looked at and taken: median, 95 %".replace("3 kB", f"{len(film) / 1e3:.0f} kB"),
            spread(seen.upload),
        ),
        ("training steps meanwhile", f"{steps} ({steps / seconds:.2f} a second)"),
    ]


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return "too few"
    return f"{statistics.median(values):.0f} ms, {statistics.quantiles(values, n=20)[-1]:.0f} ms"


# ----------------------------------------------------------------------------------------------------------- the page


def page(home: Path, options: argparse.Namespace) -> Table:
    """One page with all frames of five methods, for each size."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        return [("page", "no chromium is installed")]
    table: Table = []
    for width, height in options.sizes:
        size, scenes = f"{width}x{height}", home / f"{width}x{height}"
        write(scenes / "bench", options.frames, height, width)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            opened = browser.new_page(viewport={"width": 1280, "height": 1000})
            with studio(home, scenes) as (url, start):
                went = time.perf_counter()
                opened.goto(url)
                opened.wait_for_selector(".lens[data-frame]")
                drawn = time.perf_counter()
                table.append((f"{size}: from the start of the studio to the first picture", f"{drawn - start:.1f} s"))
                table.append((f"{size}: from the address to the first picture", f"{drawn - went:.1f} s"))
                table += weighed(opened, browser, options.frames, size, width * height * 4 * len(METHODS))
                opened.close()
            browser.close()
        shutil.rmtree(scenes)
    return table


def weighed(opened: Any, browser: Any, frames: int, size: str, frame_bytes: int) -> Table:
    """Changes of the frame, cold and warm, and the memory after all of them."""
    settled = f"{LENS}.stats.pending === 0"

    def change(index: int) -> float:
        opened.wait_for_function(settled)
        return opened.evaluate(
            f"async () => {{ const t = performance.now(); await {LENS}.show({index}); return performance.now() - t; }}"
        )

    opened.locator("[data-part=loupe]").uncheck()
    cold = [change(index) for index in range(10, frames, 10)]
    warm = [change(index) for index in range(10, frames, 10)]
    opened.locator("[data-layout=grid]").click()
    for index in range(frames):
        change(index)
    opened.wait_for_function(settled)
    system, here = browser.new_browser_cdp_session(), opened.context.new_cdp_session(opened)
    here.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in here.send("Performance.getMetrics")["metrics"]}
    stats = opened.evaluate(f"{LENS}.stats")
    kept = f"{stats['bytes'] / 2**20:.0f} of {frames * frame_bytes / 2**20:.0f} MiB"
    weight = f"{metrics['JSHeapUsedSize'] / 2**20:.0f} MiB; {renderer_mib(system):.0f} MiB; {kept}"
    return [
        (f"{size}: change of frame in the page, cold: median, 95 %", spread(cold)),
        (f"{size}: the same, warm", f"{statistics.median(warm):.2f} ms" if warm else "too few"),
        (
            f"{size}: after {frames} frames of {len(METHODS)} methods: JS heap; process of the page; pictures kept",
            weight,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--sizes", default="512x288,1280x720")
    parser.add_argument("--only", default="load,page")
    parser.add_argument("--json", type=Path, help="write the table here too")
    options = parser.parse_args()
    options.sizes = [tuple(map(int, size.split("x"))) for size in options.sizes.split(",")]
    parts = {"load": load, "page": page}
    table: Table = []
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory(prefix="bench-studio-") as home:
            table += parts[name](Path(home), options)
    print("| what | |\n| --- | ---: |")
    print("\n".join(f"| {what} | {value} |" for what, value in table))
    if options.json:
        options.json.write_text(json.dumps(dict(table), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
