"""The lens of a notebook in a page of its own, with a substitute for the model; the images are sent with the value."""

import base64
import json

import numpy as np
import pytest

from tests.browser.conftest import INSPECT
from tests.browser.pixels import read_image
from workbench.runs import Run
from workbench.scenes import read_scene
from workbench.views.lens.notebook_lens import NotebookLens, show

pytestmark = pytest.mark.browser

HOST = """
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
window.arrived = images => Object.fromEntries(Object.entries(images).map(
  ([name, files]) => [name, files.map(file => new DataView(bytes(file).buffer))]));
const traits = { ...GIVEN.steps, value: GIVEN.value, frame: GIVEN.frame, images: arrived(GIVEN.images) };
const listeners = {};
window.model = {
  get: name => traits[name],
  set: (name, value) => { traits[name] = value; },
  save_changes: () => {},
  on: (name, call) => { (listeners[name] ||= []).push(call); },
  off: () => {},
  send: (name, value) => model.hold({ [name]: value }),
  hold: changes => {                                // one message with several traits, as hold_sync sends it
    const names = Object.keys(changes).filter(name => JSON.stringify(traits[name]) !== JSON.stringify(changes[name]));
    Object.assign(traits, changes);
    names.forEach(name => (listeners[`change:${name}`] || []).forEach(call => call()));
  },
};
const module = await import(URL.createObjectURL(new Blob([GIVEN.script], { type: 'text/javascript' })));
document.body.innerHTML = '<style></style><div></div>';
document.querySelector('style').textContent = GIVEN.style;
window.leave = module.default.render({ model: window.model, el: document.querySelector('div') });
"""


@pytest.fixture
def opens(browser):
    """Opens a page with a widget in it; it fails on a script error and on a request that leaves the page."""
    contexts, errors, outside = [], [], []

    def opened(widget):
        given = {
            "script": str(NotebookLens._esm),
            "style": str(NotebookLens._css),
            "value": widget.value,
            "frame": widget.frame,
            "steps": {"steps": widget.steps, "step": widget.step, "requested_step": widget.requested_step},
            "images": {name: encoded(files) for name, files in widget.images.items()},
        }
        contexts.append(browser.new_context(viewport={"width": 900, "height": 900}))
        contexts[-1].add_init_script(path=INSPECT)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda r: outside.append(r.url) if not r.url.startswith(("blob:", "data:")) else None)
        script = json.dumps(given).replace("</", "<\\/")
        page.set_content(f"<!doctype html><body></body><script type=module>const GIVEN = {script};{HOST}</script>")
        page.wait_for_selector(f".lens[data-frame='{widget.frame}']")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors
    assert not outside


def encoded(files):
    return [base64.b64encode(file).decode() for file in files]


@pytest.fixture
def page(opens, home):
    scene = read_scene(home / "scenes" / "disc")
    return opens(show(scene, methods=["bicubic", "distilled", "teacher"], frame=2)), scene


def state(opened):
    return opened.evaluate("inspect('.lens').state")


def test_the_images_that_were_scored_are_drawn(page):
    opened, scene = page
    for key in ("bicubic", "distilled", "teacher"):
        drawn = read_image(opened, f"inspect('.lens').readPixels('{key}')")[..., :3]
        np.testing.assert_array_equal(drawn, scene.frame(key, 2))


def test_python_gets_the_frame_and_can_set_it(page):
    opened, _ = page
    opened.locator("[data-part=next]").click()
    opened.wait_for_function("model.get('frame') === 3")
    opened.evaluate("model.send('frame', 7)")
    opened.wait_for_selector(".lens[data-frame='7']")


def test_another_value_keeps_the_frame(page):
    opened, _ = page
    opened.evaluate("model.send('value', { ...model.get('value'), id: 'later' })")
    opened.wait_for_function("inspect('.lens').state.scene === 'later'")
    assert state(opened)["frame"] == 2
    opened.evaluate("leave()")


def test_the_second_slider_requests_a_training_step(opens, home):
    run = Run(home / "runs" / "mine")
    widget = show(run, frame=2)
    opened = opens(widget)
    assert opened.locator("[data-part=training-step]").inner_text() == "step 400"
    opened.locator("[data-part=step]").fill("1")
    opened.wait_for_function("model.get('requested_step') === 200")
    widget.requested_step = 200  # Python answers
    answer = {name: getattr(widget, name) for name in ("value", "steps", "step", "requested_step")}
    files = {name: encoded(files) for name, files in widget.images.items()}
    opened.evaluate("([answer, files]) => model.hold({ ...answer, images: arrived(files) })", [answer, files])
    opened.wait_for_function("inspect('.lens').state.scene === 'mine-200'")
    opened.wait_for_function("inspect('.lens').stats.pending === 0")
    assert opened.locator("[data-part=training-step]").inner_text() == "step 200"
    assert state(opened)["frame"] == 2
    scene = run.snapshot(200)
    drawn = read_image(opened, "inspect('.lens').readPixels('student')")[..., :3]
    np.testing.assert_array_equal(drawn, scene.frame("student", 2))
    opened.keyboard.press("[")  # not where nothing has the focus
    opened.locator(".lens").focus()
    opened.keyboard.press("[")
    opened.wait_for_function("model.get('requested_step') === 0")


def test_a_scene_has_no_second_slider(page):
    opened, _ = page
    assert opened.locator("[data-part=training]").is_hidden()
