"""The lens in a notebook: the same scripts as in the studio, with the images sent along instead of fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anywidget
import traitlets

from workbench.errors import FolderError, unknown_name
from workbench.runs import Run
from workbench.scenes import Scene
from workbench.views.lens import FOLDER, read
from workbench.views.lens.linker import link
from workbench.views.lens.payload import payload

LIMIT_MIB = 256
"""More than this is not sent through a notebook's connection."""


class Lens(anywidget.AnyWidget):
    """The viewer of a scene, as a widget; make it with :func:`look`.

    Attributes:
        frame: which frame is on show, counted from 0; set it to go there, observe it to follow.
        step: of a run: the training step on show; observe it to follow, :meth:`go_to` another.
        steps: of a run: the training steps there are to choose from, by the lens's second slider.
        requested_step: of a run: the step that the person asked for last.
    """

    _esm = (
        link(FOLDER / "notebook.js")
        + f"export default {{ render: context => renderWidget(context, {json.dumps(read('lens.html'))}) }};"
    )
    _css = read("lens.css")
    value = traitlets.Dict().tag(sync=True)
    images = traitlets.Dict().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(None, allow_none=True).tag(sync=True)
    steps = traitlets.List(traitlets.Int()).tag(sync=True)
    requested_step = traitlets.Int(None, allow_none=True).tag(sync=True)
    _run: Run | None = None
    _methods: Sequence[str] | None = None

    def follow(self, run: Run, *, methods: Sequence[str] | None = None, step: int | None = None) -> Lens:
        """Show a run, with a slider for its training steps; again: take in the snapshots that have come since.

        Args:
            run: live or over.
            methods: only these, in this order; None: all.
            step: the snapshot to begin with, or the nearest to it; None: the newest.

        Raises:
            FolderError: it has no snapshot yet.
        """
        self._run, self._methods = run, methods
        return self.go_to(sys.maxsize if step is None else step)

    def go_to(self, step: int) -> Lens:
        """Show the snapshot at a training step, or the one nearest to it; frame, layout and panels stay."""
        if self._run is None:
            raise FolderError("this lens shows a scene; look at a run to go from training step to training step")
        steps = self._run.snapshots()
        if not steps:
            raise FolderError(
                f"{self._run.name}: no snapshot yet; the first look at the probe clip comes soon after the start"
            )
        at = min(steps, key=lambda there: abs(there - step))
        value, images = _gathered(self._run.snapshot(at), self._methods)
        with self.hold_sync():
            self.value, self.images, self.steps, self.step, self.requested_step = value, images, steps, at, at
        return self

    @traitlets.observe("requested_step")
    def _requested_steped(self, change: dict[str, int | None]) -> None:
        requested_step = change["new"]
        if self._run is None or requested_step is None or requested_step == self.step:
            return
        try:
            self.go_to(requested_step)
        except FolderError:  # it was removed meanwhile: the slider goes back, to what there is
            self.steps, self.requested_step = self._run.snapshots(), self.step
            raise

    def show(self, scene: Scene, *, methods: Sequence[str] | None = None) -> Lens:
        """Show another scene; of the same clip (a later training step), the frame and the layout stay."""
        value, images = _gathered(scene, methods)
        self._run = None
        with self.hold_sync():
            self.value, self.images, self.steps, self.step, self.requested_step = value, images, [], None, None
        return self


def look(what: Scene | Run, *, methods: Sequence[str] | None = None, frame: int = 0, step: int | None = None) -> Lens:
    """Look at a scene or at a run in a notebook.

    Args:
        what: a scene, from :func:`workbench.scenes.read_scene` or ``Run.snapshot``; or a run, whose training steps get
            a slider of their own beside the one for frames.
        methods: only these, in this order; None: all.
        frame: where to begin, counted from 0.
        step: of a run: the snapshot to begin with; None: the newest.

    Raises:
        UnknownNameError: the scene has no such method.
        FolderError: a picture is missing, there are too many for a notebook, or the run has no snapshot yet.
    """
    if isinstance(what, Run):
        return Lens(frame=frame).follow(what, methods=methods, step=step)
    return Lens(frame=frame).show(what, methods=methods)


def _gathered(scene: Scene, methods: Sequence[str] | None) -> tuple[dict[str, object], dict[str, list[bytes]]]:
    """The lens's value, and the bytes of every picture by the folder it lies in."""
    keys = [method.key for method in scene.methods]
    for key in methods or ():
        if key not in keys:
            raise unknown_name("method", key, keys)
    if methods is not None:
        scene = replace(scene, methods=tuple(scene.method(key) for key in methods))
    folders: dict[str, Path] = {}

    def address(folder: Path) -> str:
        name = "/".join(folder.parts[-3:])
        folders[name] = folder
        return name

    value = payload(scene, address)
    try:
        images = {
            name: [(folder / f"{index:05d}.webp").read_bytes() for index in range(scene.frames)]
            for name, folder in folders.items()
        }
    except FileNotFoundError as error:
        raise FolderError(f"{scene.name}: {error.filename} is missing; write the scene again") from error
    size = sum(len(picture) for files in images.values() for picture in files) / 2**20
    if size > LIMIT_MIB:
        raise FolderError(
            f"{scene.name}: {size:.0f} MiB of images are too many for a notebook (limit {LIMIT_MIB}); "
            "choose fewer methods, or open the scene with `workbench app`"
        )
    return value, images
