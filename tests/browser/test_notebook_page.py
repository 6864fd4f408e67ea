"""The notebook's lens in a page of its own, with a stand-in for the model: the same script, pictures sent along."""

import base64
import json

import numpy as np
import pytest

from workbench.scenes import read_scene
from workbench.views.lens.notebook_lens import Lens, look

pytestmark = pytest.mark.browser

HOST = """
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const traits = { value: GIVEN.value, frame: GIVEN.frame, pictures: Object.fromEntries(
  Object.entries(GIVEN.pictures).map(([name, files]) => [name, files.map(file => new DataView(bytes(file).buffer))])) };
const listeners = {};
window.model = {
  get: name => traits[name],
  set: (name, value) => { traits[name] = value; },
  save_changes: () => {},
  on: (name, call) => { (listeners[name] ||= []).push(call); },
  off: () => {},
  send: (name, value) => { traits[name] = value; (listeners[`change:${name}`] || []).forEach(call => call()); },
};
const module = await import(URL.createObjectURL(new Blob([GIVEN.script], { type: 'text/javascript' })));
document.body.innerHTML = '<style></style><div></div>';
document.querySelector('style').textContent = GIVEN.style;
window.leave = module.default.render({ model: window.model, el: document.querySelector('div') });
"""


@pytest.fixture
def page(browser, home):
    scene = read_scene(home / "scenes" / "disc")
    widget = look(scene, methods=["bicubic", "distilled", "teacher"], frame=2)
    given = {
        "script": str(Lens._esm),
        "style": str(Lens._css),
        "value": widget.value,
        "frame": widget.frame,
        "pictures": {name: [base64.b64encode(f).decode() for f in files] for name, files in widget.pictures.items()},
    }
    context = browser.new_context(viewport={"width": 900, "height": 900})
    opened, errors, outside = context.new_page(), [], []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda r: outside.append(r.url) if not r.url.startswith(("blob:", "data:")) else None)
    script = json.dumps(given).replace("</", "<\\/")
    opened.set_content(f"<!doctype html><body></body><script type=module>const GIVEN = {script};{HOST}</script>")
    opened.wait_for_selector(".lens[data-frame='2']")
    yield opened, scene
    context.close()
    assert not errors
    assert not outside


def state(opened):
    return opened.evaluate("document.querySelector('.lens').lens.state")


def test_draws_the_pictures_that_were_scored(page):
    opened, scene = page
    for key in ("bicubic", "distilled", "teacher"):
        data = opened.evaluate(f"[...document.querySelector('.lens').lens.readPixels('{key}').data]")
        drawn = np.array(data, np.uint8).reshape(scene.height, scene.width, 4)[..., :3]
        np.testing.assert_array_equal(drawn, scene.frame(key, 2))


def test_python_hears_of_the_frame_and_can_choose_it(page):
    opened, _ = page
    opened.locator("[data-part=next]").click()
    opened.wait_for_function("model.get('frame') === 3")
    opened.evaluate("model.send('frame', 7)")
    opened.wait_for_selector(".lens[data-frame='7']")


def test_another_value_keeps_the_frame(page):
    opened, _ = page
    opened.evaluate("model.send('value', { ...model.get('value'), id: 'later' })")
    opened.wait_for_function("document.querySelector('.lens').lens.state.scene === 'later'")
    assert state(opened)["frame"] == 2
    opened.evaluate("leave()")
