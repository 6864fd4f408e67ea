"""The lens, and the progress of a run, as Gradio components: constant templates, data only through properties.

Gradio evaluates templates as code, so nothing that comes from a file is ever put into one; the scripts put every text
in through ``textContent``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.views.lens import FOLDER, read
from workbench.views.lens.linker import link


class Lens(gr.HTML):
    """The viewer of a scene.

    Args:
        value: what :func:`workbench.views.lens.payload.payload` makes; ``{"message": ...}`` where there is nothing.
        goto: a frame to go to, or ``[frame, count]`` to go to the same one again.
        steps: ``{"all": [0, 200, ...], "at": 200}``: the training steps there are snapshots of, for a second slider.
        budget_mib: how many megabytes of decoded pictures the page may keep.
        **kwargs: as of ``gr.HTML``.

    Its ``select`` event says ``{"frame": ...}`` where somebody stays on a frame, its ``step`` event
    ``{"step": ..., "follow": false}`` which snapshot somebody asks for. Listen with
    ``trigger_mode="multiple"``: by Gradio's default a frame chosen while the handler still works on the one before is
    dropped, and with ``"always_last"`` the handler gets the data of the first.
    """

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        *,
        goto: int | list[int] | None = None,
        steps: dict[str, Any] | None = None,
        budget_mib: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            value=value,
            html_template=read("lens.html"),
            css_template=read("lens.css"),
            js_on_load=link(FOLDER / "lens.js") + "mountLens(element, { trigger, props, watch });",
            apply_default_css=False,
            goto=goto,
            steps=steps,
            budget_mib=budget_mib,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        """The value is a JSON object."""
        return {"type": "object"}


class Progress(gr.HTML):
    """How a run stands: state, progress, loss terms over steps, and which snapshot is looked at.

    Args:
        value: what :func:`workbench.views.progress.progress` makes; ``{"message": ...}`` where there is no run.
        **kwargs: as of ``gr.HTML``.

    Its ``select`` event says ``{"step": ..., "follow": ...}``: somebody chose a snapshot, or to follow the newest.
    """

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template=read("progress.html"),
            css_template=read("lens.css", "progress.css"),
            js_on_load=link(FOLDER / "progress.js") + "mountProgress(element, { trigger, props, watch });",
            apply_default_css=False,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        """The value is a JSON object."""
        return {"type": "object"}
