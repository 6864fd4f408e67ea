"""The lens as a notebook widget: the modules of the studio, with the images sent instead of fetched."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, cast

import anywidget
import numpy as np
import traitlets
from PIL import Image

from workbench.errors import FolderError
from workbench.runs import Run
from workbench.scenes import Scene
from workbench.views.figures import side_by_side
from workbench.views.interactive import png
from workbench.views.lens import FOLDER, read
from workbench.views.lens.linker import bundle_modules
from workbench.views.lens.payload import payload, select_methods

LIMIT_MIB = 256
"""Maximum size of the images that are sent through the connection of a notebook."""

NUMBERS = count()
"""Numbers of the scenes that were sent: part of the URLs, which are the keys of the cache of the viewer."""


class NotebookLens(anywidget.AnyWidget):
    """Viewer of a scene as a widget; create it with :func:`show`.

    Programs that cannot show widgets show one frame of every method as an image.

    Attributes:
        frame: visible frame, counted from 0; set it to go there, observe it to follow.
        step: training step of the visible snapshot; observe it to follow, change it with :meth:`go_to`.
        steps: training steps of the snapshots of a run, for the second slider.
        requested_step: training step that was chosen last with the slider.
    """

    _esm = (
        bundle_modules(FOLDER / "notebook.js")
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

    def show_run(self, run: Run, *, methods: Sequence[str] | None = None, step: int | None = None) -> NotebookLens:
        """Show a run, with a slider for its training steps; call it again to add new snapshots.

        Args:
            run: a live or finished run.
            methods: keys of the methods to show, in this order; None: all.
            step: show the snapshot nearest to this step; None: the newest.

        Raises:
            FolderError: the run has no snapshot yet.
        """
        self._run, self._methods = run, methods
        return self.go_to(sys.maxsize if step is None else step)

    def go_to(self, step: int) -> NotebookLens:
        """Show the snapshot nearest to a training step; frame, layout and panels stay."""
        if self._run is None:
            raise FolderError(f"step: want a lens of a run, got one of a scene (step {step}); create it with show(run)")
        steps = self._run.snapshots()
        if not steps:
            raise FolderError(f"{self._run.name}: no snapshot yet; the run writes the first one soon after its start")
        at = min(steps, key=lambda known: abs(known - step))
        return self._draw(self._run.snapshot(at), self._methods, steps, at)

    @traitlets.observe("requested_step")
    def _on_requested_step(self, change: dict[str, int | None]) -> None:
        requested_step = change["new"]
        if self._run is None or requested_step is None or requested_step == self.step:
            return
        try:
            self.go_to(requested_step)
        except FolderError:  # the snapshot was removed: reset the slider
            self.steps, self.requested_step = self._run.snapshots(), self.step
            raise

    def show(self, scene: Scene, *, methods: Sequence[str] | None = None) -> NotebookLens:
        """Show another scene; the layout stays, and so does the frame if size and number of frames are equal."""
        self._draw(scene, methods, [], None)
        self._run = None
        return self

    def _draw(self, scene: Scene, methods: Sequence[str] | None, steps: list[int], step: int | None) -> NotebookLens:
        value, images = _collect(scene, methods)
        with self.hold_sync():
            self.value, self.images, self.steps, self.step, self.requested_step = value, images, steps, step, step
        return self

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = cast("tuple[dict[str, Any], dict[str, Any]]", super()._repr_mimebundle_(**options))
        value = cast("dict[str, Any]", self.value)
        frames = {
            method["label"]: _decode(self.images[method["image_folder"]][self.frame]) for method in value["methods"]
        }
        figure = side_by_side(frames, columns=4, title=f"frame {self.frame + 1} of {value['frame_count']}")
        return data | {"image/png": base64.b64encode(png(figure)).decode()}, metadata


def _decode(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


def show(
    source: Scene | Run, *, methods: Sequence[str] | None = None, frame: int = 0, step: int | None = None
) -> NotebookLens:
    """Show a scene or a run in a notebook.

    Args:
        source: a scene, from :func:`workbench.scenes.read_scene` or ``Run.snapshot``; or a run, with a second slider
            for its training steps.
        methods: keys of the methods to show, in this order; None: all.
        frame: first visible frame, counted from 0.
        step: training step of the first visible snapshot; None: the newest.

    Raises:
        UnknownNameError: unknown method.
        FolderError: an image is missing, the images are too large for a notebook, or the run has no snapshot yet.
    """
    if isinstance(source, Run):
        return NotebookLens(frame=frame).show_run(source, methods=methods, step=step)
    return NotebookLens(frame=frame).show(source, methods=methods)


def _collect(scene: Scene, methods: Sequence[str] | None) -> tuple[dict[str, object], dict[str, list[bytes]]]:
    """Return the value of the lens, and the files of each folder of images."""
    scene = select_methods(scene, methods)
    folders: dict[str, Path] = {}
    number = next(NUMBERS)

    def url_of(folder: Path) -> str:
        name = "/".join((str(number), *folder.parts[-3:]))
        folders[name] = folder
        return name

    value = payload(scene, url_of)
    try:
        images = {
            name: [(folder / f"{index:05d}.webp").read_bytes() for index in range(scene.frames)]
            for name, folder in folders.items()
        }
    except FileNotFoundError as error:
        raise FolderError(f"{scene.name}: {error.filename} is missing; write the scene again") from error
    size = sum(len(image) for files in images.values() for image in files) / 2**20
    if size > LIMIT_MIB:
        raise FolderError(
            f"{scene.name}: want at most {LIMIT_MIB} MiB of images in a notebook, got {size:.0f}; "
            "choose fewer methods, or open the scene with `workbench app`"
        )
    return value, images
