"""Pixels of a page."""

import base64

import numpy as np


def read_image(page, expression: str) -> np.ndarray:
    """Return an ``ImageData`` of the page as uint8 ``(H, W, 4)``; as base64, since a list of numbers takes seconds."""
    width, height, data = page.evaluate(
        f"""async () => {{
            const image = {expression}, reader = new FileReader();
            const read = new Promise(done => {{ reader.onload = done; }});
            reader.readAsDataURL(new Blob([image.data]));
            await read;
            return [image.width, image.height, reader.result];
        }}"""
    )
    return np.frombuffer(base64.b64decode(data.partition(",")[2]), np.uint8).reshape(height, width, 4)
