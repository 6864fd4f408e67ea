"""A page to send: a scene or a run in one HTML file that opens from disk, without server and network.

The lens is in it as it is in the studio, and its pictures as the files of the folder are, byte for byte: nothing is
made smaller. What does not fit the size that was asked for is left out, frame by frame from the end, and the page says
so. The page may load nothing (its Content-Security-Policy allows one script, by its hash); texts of a folder are only
ever text; where the files of this machine lie is not said.
"""

from __future__ import annotations

import base64
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import accumulate
from pathlib import Path
from typing import Any

from workbench.data.datasets.samples import samples
from workbench.errors import ConfigError, FolderError, unknown_name
from workbench.runs import Run
from workbench.scenes import Scene, write_atomic
from workbench.views.lens.payload import payload
from workbench.views.privacy import without_paths
from workbench.views.report_page import Page, Told, in_megabytes, left_out

MAX_BYTES = 20_000_000
"""Of a page, where nothing else is asked for; many mailboxes take 25 MB."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A page that was written.

    Attributes:
        path: where.
        bytes: its size.
        frames: how many of the clip are in it.
        of: how many the clip has.
        steps: the training steps in it; none of a scene.
        left_out: what is not in it, in words; empty where everything is.
    """

    path: Path
    bytes: int
    frames: int
    of: int
    steps: tuple[int, ...] = ()
    left_out: str = ""


def write_report(
    what: Scene | Run,
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
        what: a scene, from :func:`workbench.scenes.read_scene` or ``Run.snapshot``; or a run, whose snapshots get a
            slider, beside the losses.
        path: the ``.html`` file; its folder is made where it is not there.
        max_bytes: what the page may take. Pictures take a third more than on disk.
        methods: only these, in this order; None: all.
        steps: of a run: only the snapshots of these training steps; None: all.
        replace_file: overwrite a file that is there.
        progress: told after each frame how many are done, of how many.

    Raises:
        ConfigError: the name does not end in .html, or steps are asked of a scene.
        FolderError: something is there already, a picture is missing, the run has no snapshot (of these steps), or
            not even one frame fits.
        UnknownNameError: no such method.
    """
    if path.suffix not in (".html", ".htm"):
        raise ConfigError(f"{path}: want a name that ends in .html")
    if path.exists() and not (replace_file and path.is_file()):
        raise FolderError(f"{path}: there is something already; choose another name or ask to replace it")
    told = _gathered(what, methods, steps)
    texts = Page(told, date.today())
    first = next(iter(told.scenes.values()))
    sizes = [_size(told, index) for index in range(first.frames)]
    whole = len(texts.page(first.frames, "", 0)) + sum(sizes) - 1  # no comma after the last
    frames = first.frames if whole <= max_bytes else _fitting(texts, sizes, max_bytes, whole)
    if not frames:
        least = len(texts.page(1, "", whole, max_bytes)) + sizes[0] - 1
        raise FolderError(
            f"{first.name}: a page with one frame takes {in_megabytes(least)}, and at most {in_megabytes(max_bytes)} "
            "were asked for; allow more (--max-size), or show fewer methods (--methods) or training steps (--steps)"
        )
    parts: list[str] = []
    for index in range(frames):
        parts += _encoded(told, index)
        if progress:
            progress(index + 1, frames)
    page = texts.page(frames, ",".join(parts), whole, max_bytes)
    if len(page) > max_bytes:
        raise FolderError(f"{first.name}: it grew while the page was written; write it again")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)
    return Report(
        path=path,
        bytes=len(page),
        frames=frames,
        of=first.frames,
        steps=tuple(told.scenes) if told.run else (),
        left_out=left_out(frames, first.frames, whole, max_bytes),
    )


def _gathered(what: Scene | Run, methods: Sequence[str] | None, steps: Sequence[int] | None) -> Told:
    run = what if isinstance(what, Run) else None
    if run:
        there = run.snapshots()
        if not there:
            raise FolderError(
                f"{run.name}: no snapshot yet; the first look at the probe clip comes soon after the start"
            )
        if absent := [step for step in steps or () if step not in there]:
            raise FolderError(f"{run.name}: no snapshot of step {absent[0]}; there are {', '.join(map(str, there))}")
        chosen = {step: run.snapshot(step) for step in (sorted(set(steps)) if steps else there)}
        top = run.folder
    else:
        assert isinstance(what, Scene)
        if steps:
            raise ConfigError(f"{what.name}: steps are of a run, and this is a scene")
        chosen = {0: what}
        top = Path(os.path.commonpath([what.folder, *what.homes.values()]))
    chosen = {step: _checked(_only(scene, methods)) for step, scene in chosen.items()}
    folders: dict[str, Path] = {}

    def address(folder: Path) -> str:
        if not folder.resolve().is_relative_to(top.resolve()):
            raise FolderError(f"{top.name}: {folder.name} leads out of its folder; such pictures are not sent")
        name = folder.relative_to(top).as_posix()
        folders[name] = folder
        return name

    values = {step: payload(scene, address) for step, scene in chosen.items()}
    return Told(chosen, values, folders, run)


def _only(scene: Scene, methods: Sequence[str] | None) -> Scene:
    """A scene with some of its methods, and without paths in its texts."""
    keys = [method.key for method in scene.methods]
    for key in methods or ():
        if key not in keys:
            raise unknown_name("method", key, keys)
    chosen = [scene.method(key) for key in dict.fromkeys(methods or keys)]
    kept = {method.key for method in chosen}
    curves = [
        replace(curve, series={key: values for key, values in curve.series.items() if key in kept})
        for curve in scene.curves
    ]
    return replace(
        scene,
        name=without_paths(scene.name),
        title=without_paths(scene.title),
        methods=tuple(
            replace(method, label=without_paths(method.label), note=without_paths(method.note)) for method in chosen
        ),
        curves=tuple(curve for curve in curves if curve.series),
        overlays=tuple(
            replace(overlay, label=without_paths(overlay.label), explain=without_paths(overlay.explain))
            for overlay in scene.overlays
            if overlay.method in kept
        ),
        protocol=without_paths(scene.protocol),
        provenance=without_paths(_credited(scene.provenance)),
    )


def _checked(scene: Scene) -> Scene:
    """The scene, if a page can be made of what its ``scene.json`` says."""
    whole = all(isinstance(number, int) and number > 0 for number in (scene.width, scene.height, scene.frames))
    if not whole or not isinstance(scene.fps, int | float) or not scene.fps > 0:
        raise FolderError(f"{scene.name}: its size, its frames or its rate are no numbers above 0; write it again")
    values = (value for curve in scene.curves for series in curve.series.values() for value in series)
    if not all(value is None or isinstance(value, int | float) for value in values):
        raise FolderError(f"{scene.name}: not all of its scores are numbers; write it again")
    return scene


def _credited(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Where a clip comes from, and whose pictures these are where it is one of the samples and nothing is said."""
    name = str(provenance.get("clip", "")).partition("[")[0].strip()
    known = next((sample for sample in samples() if sample.name == name), None)
    credit = {"credit": known.credit, "licence": known.licence} if known else {}
    return {**credit, **provenance}


def _pictures(told: Told, index: int) -> Iterator[tuple[str, Path]]:
    """The pictures of a frame: address on the page, file."""
    for name, folder in told.folders.items():
        yield f"{name}/{index:05d}.webp", folder / f"{index:05d}.webp"


def _entry(address: str, size: int) -> int:
    """What a picture of ``size`` bytes takes on the page: its address, and base64 in quotes, a colon and a comma."""
    return len(json.dumps(address)) + 4 * -(-size // 3) + 4


def _size(told: Told, index: int) -> int:
    try:
        return sum(_entry(address, path.stat().st_size) for address, path in _pictures(told, index))
    except FileNotFoundError as error:
        raise FolderError(_missing(told, error)) from error


def _encoded(told: Told, index: int) -> Iterator[str]:
    for address, path in _pictures(told, index):
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise FolderError(_missing(told, error)) from error
        if path.is_symlink() or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
            raise FolderError(f"{address}: not a WebP picture; write the scene again")
        yield f'{json.dumps(address)}:"{base64.b64encode(data).decode()}"'


def _missing(told: Told, error: OSError) -> str:
    scene = next(iter(told.scenes.values()))
    return f"{scene.name}: {Path(error.filename).name} of {Path(error.filename).parent.name} is missing; write it again"


def _fitting(texts: Page, sizes: Sequence[int], max_bytes: int, whole: int) -> int:
    """How many frames from the first on fit, of a clip that does not fit whole; 0: none."""
    taken = list(accumulate(sizes[:-1]))
    return bisect_right(
        range(1, len(sizes)),
        max_bytes,
        key=lambda count: len(texts.page(count, "", whole, max_bytes)) + taken[count - 1] - 1,
    )
