"""Access to the lens of a page: its parts, its state and the pixels of its canvases."""

import numpy as np
from PIL import Image

from tests.browser.pixels import read_image

LENS = ".lens[data-frame]"


MINUS = "\N{MINUS SIGN}"


def state(page):
    return page.evaluate(f"inspect('{LENS}').state")


def show(page, frame):
    assert page.evaluate(f"inspect('{LENS}').show({frame})")


def part(page, name):
    return page.locator(f"{LENS} [data-part={name}]")


def choose(page, name, value):
    part(page, name).select_option(value)


def layout(page, name):
    page.locator(f"{LENS} [data-layout={name}]").click()


def rgb(page, call) -> np.ndarray:
    """Return an image of the page, uint8 ``(H, W, 3)``; it must be opaque."""
    rgba = read_image(page, f"inspect('{LENS}').{call}")
    assert (rgba[..., 3] == 255).all()
    return rgba[..., :3]


def enlarged(image, scene):
    return image.repeat(scene.height // len(image), 0).repeat(scene.width // image.shape[1], 1)


def wait_frame(page, frame):
    page.wait_for_function(f"document.querySelector('{LENS}').dataset.frame == '{frame}'")


def panel(page, name):
    page.locator(f"{LENS} [data-panel={name}]").click()


def wait_state(page, condition):
    page.wait_for_function(f"(s => {condition})(inspect('{LENS}').state)")


def ramp(stops):
    """Return the 256 colors between the stops, as the page draws them."""
    rgb = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops], float)
    at = np.linspace(0, len(stops) - 1, 256)
    return np.stack([np.interp(at, range(len(stops)), rgb[:, c]) for c in range(3)], 1)


def gray(scene, overlay, frame):
    """Return the values of a map that its 8-bit image stores."""
    with Image.open(scene.overlay_path(overlay, frame)) as image:
        levels = np.asarray(image.convert("L")).astype(float)
    return overlay.vmin + levels / 255 * (overlay.vmax - overlay.vmin)
