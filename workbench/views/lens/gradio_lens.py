"""Gradio components with a script of their own: the lens, the progress of a run, and the parts of the studio's pages.

Gradio evaluates templates as code, so they are constant: data arrives through properties, and the scripts insert every
text through ``textContent``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from workbench.views.lens import FOLDER, read
from workbench.views.lens.linker import bundle_modules


def scripted(value: Mapping[str, Any], html: str, css: str, script: str, **kwargs: Any) -> gr.HTML:
    """Add a component whose script draws its value, a JSON object."""
    return gr.HTML(
        dict(value), html_template=html, css_template=css, js_on_load=script, apply_default_css=False, **kwargs
    )


def lens_viewer(value: Mapping[str, Any], **kwargs: Any) -> gr.HTML:
    """Add a viewer of a scene.

    Args:
        value: result of :func:`workbench.views.lens.payload.payload`, or ``{"message": ...}``.
        **kwargs: arguments of ``gr.HTML``; ``steps``, ``{"all": [0, 200, ...], "at": 200}``: training steps of the
            snapshots, for a second slider; ``budget_mib``: maximum size of the cache of decoded images.

    The ``select`` event has the data ``{"frame": ...}``, the frame on which the viewer stays. The ``step`` event has
    ``{"step": ..., "follow": false}``, the requested snapshot. Listen with ``trigger_mode="multiple"``: Gradio's
    default drops an event while a handler runs, and ``"always_last"`` passes the data of the first.
    """
    script = bundle_modules(FOLDER / "lens.js") + "mountLens(element, { trigger, props, watch });"
    return scripted(value, read("lens.html"), read("lens.css"), script, **{"steps": None, **kwargs})


def run_progress(value: Mapping[str, Any], **kwargs: Any) -> gr.HTML:
    """Add the progress of a run: state, loss terms over steps, and a slider for the snapshots.

    Args:
        value: result of :func:`workbench.views.progress.progress`, or ``{"message": ...}``.
        **kwargs: arguments of ``gr.HTML``.

    The ``select`` event has the data ``{"step": ..., "follow": ...}``: the chosen snapshot, and whether to show newer.
    """
    script = bundle_modules(FOLDER / "progress.js") + "mountProgress(element, { trigger, props, watch });"
    return scripted(value, read("progress.html"), read("lens.css", "progress.css"), script, **kwargs)
