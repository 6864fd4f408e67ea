"""How fast the lens changes the frame, warm and cold, and what a page weighs after playing a scene.

    python bench/lens_speed.py [--frames 100] [--width 512] [--height 288]

Medians over many frame changes, in a headless chromium without a GPU: an upper bound. The scene has five methods, made
of arithmetic and grain. Cold: a frame that was never asked for, through the server of the studio. Warm: it is in the
lens's cache. Memory: of the process that renders the page (Linux), before and after every frame was shown.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import CDPSession, sync_playwright

from workbench.scenes import Method, write_scene
from workbench.views.studio import launch

METHODS = ("high", "bicubic", "plain", "distilled", "teacher")
LENS = "document.querySelector('.lens').lens"


def write(folder: Path, frames: int, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grain = rng.integers(-6, 7, (height, width, 3))
    with write_scene(folder) as writer:
        for number, key in enumerate(METHODS):
            clip = np.empty((frames, height, width, 3), np.uint8)
            for t in range(frames):
                waves = 127 + 60 * np.sin((x + 3 * t) / (17 + number)) + 50 * np.cos((y - t) / 23)
                colours = np.stack([waves, waves[::-1], waves[:, ::-1]], -1)
                clip[t] = (colours + np.roll(grain, t * 7, 1)).clip(0, 255)
            writer.add_method(Method(key=key, label=key), clip)
            writer.add_curve("psnr_y_db", "PSNR-Y", "dB", "higher", key, np.linspace(28, 30, frames) + number)
        writer.finish(name=folder.name, title="Bench", fps=24, protocol={}, provenance={"licence": "CC0"})


def renderer_mib(browser_session: CDPSession) -> float:
    """Memory of the heaviest process that renders a page."""
    found = browser_session.send("SystemInfo.getProcessInfo")["processInfo"]
    sizes = [0]
    for process in found:
        if process["type"] == "renderer":
            sizes.append(psutil.Process(process["id"]).memory_info().rss)
    return max(sizes) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=288)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("no chromium is installed")

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write(root / "bench", options.frames, options.height, options.width)
        app, url = launch(runs=[], scenes=[root], quiet=True, wait=False)
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            session = browser.new_browser_cdp_session()
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto(url)
            page.wait_for_selector(".lens[data-frame]")
            page.wait_for_function(f"{LENS}.stats.pending === 0")

            def change(frames: list[int], settle: bool) -> list[float]:
                """Milliseconds of each change of the frame, as the page measures them."""
                times = []
                for frame in frames:
                    times.append(
                        page.evaluate(
                            f"async () => {{ const t = performance.now(); await {LENS}.show({frame});"
                            " return performance.now() - t; }"
                        )
                    )
                    if settle:
                        page.wait_for_function(f"{LENS}.stats.pending === 0")
                return times

            page.locator("[data-part=loupe]").uncheck()
            before = renderer_mib(session)
            cold_two = change(list(range(10, options.frames, 10)), settle=True)
            page.locator("[data-layout=grid]").click()
            page.wait_for_function(f"{LENS}.stats.pending === 0")
            cold_five = change(list(range(17, options.frames, 10)), settle=True)
            for frame in range(options.frames):
                page.evaluate(f"{LENS}.show({frame})")
            page.wait_for_function(f"{LENS}.stats.pending === 0")
            played = page.evaluate(
                f"""async () => {{
                  {LENS}.show(0);
                  const seen = new Set(), start = performance.now();
                  document.querySelector('[data-part=play]').click();
                  while (performance.now() - start < 3000) {{
                    await new Promise(requestAnimationFrame);
                    seen.add({LENS}.state.frame);
                  }}
                  document.querySelector('[data-part=play]').click();
                  return seen.size / 3;
                }}"""
            )
            warm_five = change(list(range(options.frames)), settle=False)
            page.locator("[data-layout=wipe]").click()
            warm_two = change(list(range(options.frames)), settle=False)
            stats = page.evaluate(f"{LENS}.stats")
            heap = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
            after = renderer_mib(session)
            browser.close()
        app.close()

    pictures = options.frames * len(METHODS) * options.width * options.height * 4 / 2**20
    two, five = statistics.median(cold_two), statistics.median(cold_five)
    warm2, warm5 = max(statistics.median(warm_two), 0.05), max(statistics.median(warm_five), 0.05)
    print(f"scene: {options.frames} frames of {options.width}x{options.height}, {len(METHODS)} methods")
    for what, cold, warm in (("wipe, 2 pictures", two, warm2), ("side by side, 5 pictures", five, warm5)):
        print(f"change of frame, {what:24}  cold {cold:6.1f} ms   warm {warm:5.2f} ms   {cold / warm:4.0f} x")
    print(f"plays side by side, warm: {played:.1f} of 24 frames a second")
    print(f"pictures kept: {stats['frames']}, {stats['bytes'] / 2**20:.0f} MiB of {pictures:.0f} MiB raw")
    grown = (after - before) / pictures
    print(f"page: {before:.0f} MiB, {after:.0f} MiB after all frames (+ {grown:.2f} x raw); JS heap {heap:.0f} MiB")


if __name__ == "__main__":
    main()
