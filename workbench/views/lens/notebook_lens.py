"""The lens in a notebook: the same scripts as in the studio, with the pictures sent along instead of fetched."""

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
from workbench.views.lens import SCRIPTS, read
from workbench.views.lens.payload import payload

LIMIT_MIB = 256
"""More than this is not sent through a notebook's connection."""

# The scripts are written into the module as they are (no eval, which strict notebook servers forbid). `pictures` holds
# the files of each folder of numbered pictures; they become addresses that only this page knows.
_ESM = """
function body(element, trigger, props, server, upload, watch) {
%(script)s
}

function render({ model, el }) {
  el.innerHTML = %(html)s;
  const watchers = [], props = { value: null, goto: null, steps: null };
  let addresses = [];
  function value() {
    const made = structuredClone(model.get('value')), pictures = model.get('pictures'), old = addresses;
    addresses = [];
    const local = frames => (pictures[frames] || []).map(bytes => {
      addresses.push(URL.createObjectURL(new Blob([bytes], { type: 'image/webp' })));
      return addresses[addresses.length - 1];
    });
    for (const method of made.methods || []) method.frames = local(method.frames);
    const maps = (made.overlays || []).flatMap(overlay => Object.values(overlay.maps));
    for (const map of maps) map.frames = local(map.frames);
    setTimeout(() => old.forEach(address => URL.revokeObjectURL(address)), 5000);
    return made;
  }
  const call = name => watchers.filter(([names]) => names.includes(name)).forEach(([, callback]) => callback());
  const steps = () => { const all = model.get('steps'); return all.length ? { all, at: model.get('step') } : null; };
  let due = false;                                  // all traits change in one message: draw once
  const onValue = () => {
    if (due) return;
    due = true;
    queueMicrotask(() => { due = false; Object.assign(props, { value: value(), steps: steps() }); call('value'); });
  };
  const onSteps = () => { props.steps = steps(); call('steps'); };
  const onFrame = () => {
    if (el.firstElementChild.lens.state.frame === model.get('frame')) return;
    props.goto = model.get('frame');
    call('goto');
  };
  model.on('change:value', onValue);
  model.on('change:pictures', onValue);
  model.on('change:frame', onFrame);
  model.on('change:steps', onSteps);
  Object.assign(props, { value: value(), steps: steps() });
  const told = { select: ['frame', data => data.frame], step: ['wish', data => data.step] };
  const trigger = (name, data) => {                 // what the lens says -> the trait that Python observes
    const [trait, of] = told[name];
    if (of(data) === model.get(trait)) return;
    model.set(trait, of(data));
    model.save_changes();
  };
  body(el, trigger, props, {}, null, (names, callback) => watchers.push([[names].flat(), callback]));
  if (model.get('frame')) onFrame();
  return () => {
    model.off('change:value', onValue);
    model.off('change:pictures', onValue);
    model.off('change:frame', onFrame);
    model.off('change:steps', onSteps);
    addresses.forEach(address => URL.revokeObjectURL(address));
  };
}

export default { render };
"""


class Lens(anywidget.AnyWidget):
    """The viewer of a scene, as a widget; make it with :func:`look`.

    Attributes:
        frame: which frame is on show, counted from 0; set it to go there, observe it to follow.
        step: of a run: the training step on show; observe it to follow, :meth:`go_to` another.
        steps: of a run: the training steps there are to choose from, by the lens's second slider.
        wish: of a run: the step that the person asked for last.
    """

    _esm = _ESM % {"script": read(*SCRIPTS), "html": json.dumps(read("lens.html"))}
    _css = read("lens.css")
    value = traitlets.Dict().tag(sync=True)
    pictures = traitlets.Dict().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(None, allow_none=True).tag(sync=True)
    steps = traitlets.List(traitlets.Int()).tag(sync=True)
    wish = traitlets.Int(None, allow_none=True).tag(sync=True)
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
        value, pictures = _gathered(self._run.snapshot(at), self._methods)
        with self.hold_sync():
            self.value, self.pictures, self.steps, self.step, self.wish = value, pictures, steps, at, at
        return self

    @traitlets.observe("wish")
    def _wished(self, change: dict[str, int | None]) -> None:
        wish = change["new"]
        if self._run is None or wish is None or wish == self.step:
            return
        try:
            self.go_to(wish)
        except FolderError:  # it was removed meanwhile: the slider goes back, to what there is
            self.steps, self.wish = self._run.snapshots(), self.step
            raise

    def show(self, scene: Scene, *, methods: Sequence[str] | None = None) -> Lens:
        """Show another scene; of the same clip (a later training step), the frame and the layout stay."""
        value, pictures = _gathered(scene, methods)
        self._run = None
        with self.hold_sync():
            self.value, self.pictures, self.steps, self.step, self.wish = value, pictures, [], None, None
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
        pictures = {
            name: [(folder / f"{index:05d}.webp").read_bytes() for index in range(scene.frames)]
            for name, folder in folders.items()
        }
    except FileNotFoundError as error:
        raise FolderError(f"{scene.name}: {error.filename} is missing; write the scene again") from error
    size = sum(len(picture) for files in pictures.values() for picture in files) / 2**20
    if size > LIMIT_MIB:
        raise FolderError(
            f"{scene.name}: {size:.0f} MiB of pictures are too many for a notebook (limit {LIMIT_MIB}); "
            "choose fewer methods, or open the scene with `workbench app`"
        )
    return value, pictures
