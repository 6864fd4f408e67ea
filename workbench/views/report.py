"""Report page: a scene or a run in one HTML file that opens from disk, without server and network.

It contains the viewer of the studio and the image files of the folder, byte for byte. Frames that do not fit the
maximum size are left out from the end, with a notice. The page loads nothing (its Content-Security-Policy allows one
script, by its hash), inserts texts of a folder only as text, and contains no path of this machine.
"""

from __future__ import annotations

import base64
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from workbench.atomic_files import write_atomic
from workbench.data.datasets.samples import credit_of
from workbench.errors import ConfigError, FolderError
from workbench.runs import Run
from workbench.scenes import Scene
from workbench.views.lens.payload import payload, select_methods
from workbench.views.privacy import without_paths
from workbench.views.report_page import Page, PageContent, in_megabytes, left_out

MAX_BYTES = 20_000_000
"""Default maximum size of a page; many mailboxes accept 25 MB."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Result of writing a page.

    Attributes:
        path: the file.
        bytes: its size.
        frames: number of frames on the page.
        of: number of frames of the clip.
        steps: training steps on the page; empty for a scene.
        left_out: notice about the frames that are left out; empty where the page is complete.
    """

    path: Path
    bytes: int
    frames: int
    of: int
    steps: tuple[int, ...] = ()
    left_out: str = ""


def write_report(
    source: Scene | Run,
    path: Path,
    *,
    max_bytes: int = MAX_BYTES,
    methods: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    replace_file: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write a scene or a run as one page.

    Args:
        source: a scene, from :func:`workbench.scenes.read_scene` or ``Run.snapshot``; or a run, with a slider for its
            snapshots and a chart of its losses.
        path: the ``.html`` file; its folder is created where it does not exist.
        max_bytes: maximum size of the page. Images take a third more than on disk.
        methods: keys of the methods to include, in this order; None: all.
        steps: training steps of the snapshots of a run to include; None: all.
        replace_file: overwrite an existing file.
        progress: function that is called after each frame with the number of written frames and of all frames.

    Raises:
        ConfigError: the name does not end in .html, or steps are given for a scene.
        FolderError: the file exists, an image is missing, the run has no snapshot (of these steps), or not even one
            frame fits.
        UnknownNameError: unknown method.
    """
    if path.suffix not in (".html", ".htm"):
        raise ConfigError(f"path: want a name that ends in .html, got {path}")
    if path.exists() and not (replace_file and path.is_file()):
        raise FolderError(f"{path}: exists already; choose another name, or replace it (--replace)")
    content = _collect(source, methods, steps)
    page = Page(content, date.today())
    first = next(iter(content.scenes.values()))
    try:
        sizes = [_size(content, index) for index in range(first.frames)]
        whole = len(page.render(first.frames, "", 0)) + sum(sizes) - 1  # no comma after the last

        def size(count: int) -> int:
            """Return the size of a page with the first frames, but not all of them."""
            return len(page.render(count, "", whole, max_bytes)) + sum(sizes[:count]) - 1

        fits = whole <= max_bytes
        frames = first.frames if fits else bisect_right(range(1, first.frames), max_bytes, key=size)
        if not frames:
            raise FolderError(
                f"{first.name}: want at most {in_megabytes(max_bytes)}, got {in_megabytes(size(1))} for one frame; "
                "allow more (--max-size), or include fewer methods (--methods) or training steps (--steps)"
            )
        parts: list[str] = []
        for index in range(frames):
            parts += _encode(content, index)
            if progress:
                progress(index + 1, frames)
    except FileNotFoundError as error:
        missing = Path(error.filename)
        raise FolderError(
            f"{first.name}: {missing.name} of {missing.parent.name} is missing; write the scene again"
        ) from error
    text = page.render(frames, ",".join(parts), whole, max_bytes)
    if len(text) > max_bytes:
        raise FolderError(f"{first.name}: changed while the page was written; write the page again")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return Report(
        path=path,
        bytes=len(text),
        frames=frames,
        of=first.frames,
        steps=tuple(content.scenes) if content.run else (),
        left_out=left_out(frames, first.frames, whole, max_bytes),
    )


def _collect(source: Scene | Run, methods: Sequence[str] | None, steps: Sequence[int] | None) -> PageContent:
    run = source if isinstance(source, Run) else None
    if run:
        available = run.snapshots()
        if not available:
            raise FolderError(f"{run.name}: no snapshot yet; the run writes the first one soon after its start")
        if absent := [step for step in steps or () if step not in available]:
            raise FolderError(f"{run.name}: want snapshots of {', '.join(map(str, available))}; got step {absent[0]}")
        chosen = {step: run.snapshot(step) for step in (sorted(set(steps)) if steps else available)}
        top = run.folder
    else:
        assert isinstance(source, Scene)
        if steps:
            raise ConfigError(f"steps: want a run, got the scene {source.name}; leave --steps out")
        chosen = {0: source}
        top = Path(os.path.commonpath([source.folder, *source.folders.values()]))
    chosen = {step: _check(_select(scene, methods)) for step, scene in chosen.items()}
    folders: dict[str, Path] = {}

    def url_of(folder: Path) -> str:
        if not folder.resolve().is_relative_to(top.resolve()):
            raise FolderError(f"{top.name}: {folder.name} links to outside its folder; a page includes no such images")
        name = folder.relative_to(top).as_posix()
        folders[name] = folder
        return name

    values = {step: payload(scene, url_of) for step, scene in chosen.items()}
    return PageContent(chosen, values, folders, run)


def _select(scene: Scene, methods: Sequence[str] | None) -> Scene:
    """Return a scene with some of its methods, and without paths in its texts."""
    scene = select_methods(scene, methods)
    kept = {method.key for method in scene.methods}
    curves = [
        replace(curve, series={key: values for key, values in curve.series.items() if key in kept})
        for curve in scene.curves
    ]
    return replace(
        scene,
        name=without_paths(scene.name),
        title=without_paths(scene.title),
        methods=tuple(
            replace(method, label=without_paths(method.label), note=without_paths(method.note))
            for method in scene.methods
        ),
        curves=tuple(curve for curve in curves if curve.series),
        overlays=tuple(
            replace(overlay, label=without_paths(overlay.label), explain=without_paths(overlay.explain))
            for overlay in scene.overlays
            if overlay.method in kept
        ),
        protocol=without_paths(scene.protocol),
        provenance=without_paths(_add_credit(scene.provenance)),
    )


def _check(scene: Scene) -> Scene:
    """Return the scene after checking the numbers of its ``scene.json``."""
    whole = all(isinstance(number, int) and number > 0 for number in (scene.width, scene.height, scene.frames))
    if not whole or not isinstance(scene.fps, int | float) or not scene.fps > 0:
        raise FolderError(f"{scene.name}: width, height, frames and fps: want numbers above 0; write the scene again")
    values = (value for curve in scene.curves for series in curve.series.values() for value in series)
    if not all(value is None or isinstance(value, int | float) for value in values):
        raise FolderError(f"{scene.name}: curves: want numbers or null; write the scene again")
    return scene


def _add_credit(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance with credit and license of a clip that is one of the samples."""
    return {**credit_of(str(provenance.get("clip", ""))), **provenance}


def _images(content: PageContent, index: int) -> Iterator[tuple[str, Path]]:
    """Yield URL on the page and file of every image of a frame."""
    for name, folder in content.folders.items():
        yield f"{name}/{index:05d}.webp", folder / f"{index:05d}.webp"


def _size(content: PageContent, index: int) -> int:
    """Return the size of a frame on the page: URLs, base64 in quotes, colons and commas."""
    return sum(len(json.dumps(url)) + 4 * -(-path.stat().st_size // 3) + 4 for url, path in _images(content, index))


def _encode(content: PageContent, index: int) -> Iterator[str]:
    for url, path in _images(content, index):
        data = path.read_bytes()
        if path.is_symlink() or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
            raise FolderError(f"{url}: want a WebP image; write the scene again")
        yield f'{json.dumps(url)}:"{base64.b64encode(data).decode()}"'
