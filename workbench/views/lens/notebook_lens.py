"""The lens in a notebook: the same scripts as in the studio, with the pictures sent along instead of fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anywidget
import traitlets

from workbench.errors import FolderError, unknown_name
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
  const watchers = [], props = { value: null, goto: null };
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
  let due = false;                                  // both traits change in one message: draw once
  const onValue = () => {
    if (due) return;
    due = true;
    queueMicrotask(() => { due = false; props.value = value(); call('value'); });
  };
  const onFrame = () => {
    if (el.firstElementChild.lens.state.frame === model.get('frame')) return;
    props.goto = model.get('frame');
    call('goto');
  };
  model.on('change:value', onValue);
  model.on('change:pictures', onValue);
  model.on('change:frame', onFrame);
  props.value = value();
  const trigger = (name, data) => {
    if (name !== 'select' || data.frame === model.get('frame')) return;
    model.set('frame', data.frame);
    model.save_changes();
  };
  body(el, trigger, props, {}, null, (names, callback) => watchers.push([[names].flat(), callback]));
  if (model.get('frame')) onFrame();
  return () => {
    model.off('change:value', onValue);
    model.off('change:pictures', onValue);
    model.off('change:frame', onFrame);
    addresses.forEach(address => URL.revokeObjectURL(address));
  };
}

export default { render };
"""


class Lens(anywidget.AnyWidget):
    """The viewer of a scene, as a widget; make it with :func:`look`.

    Attributes:
        frame: which frame is on show, counted from 0; set it to go there, observe it to follow.
    """

    _esm = _ESM % {"script": read(*SCRIPTS), "html": json.dumps(read("lens.html"))}
    _css = read("lens.css")
    value = traitlets.Dict().tag(sync=True)
    pictures = traitlets.Dict().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)

    def show(self, scene: Scene, *, methods: Sequence[str] | None = None) -> Lens:
        """Show another scene; of the same clip (a later training step), the frame and the layout stay."""
        value, pictures = _gathered(scene, methods)
        with self.hold_sync():
            self.value = value
            self.pictures = pictures
        return self


def look(scene: Scene, *, methods: Sequence[str] | None = None, frame: int = 0) -> Lens:
    """Look at a scene, or at a snapshot of a run, in a notebook.

    Args:
        scene: from :func:`workbench.scenes.read_scene` or ``Run.snapshot``.
        methods: only these, in this order; None: all.
        frame: where to begin, counted from 0.

    Raises:
        UnknownNameError: the scene has no such method.
        FolderError: a picture is missing, or there are too many for a notebook.
    """
    return Lens(frame=frame).show(scene, methods=methods)


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
