"""The lens, and the progress of a run, as Gradio components: constant templates, data only through properties.

Gradio evaluates templates as code, so nothing that comes from a file is ever put into one; the scripts put every text
in through ``textContent``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

_HERE = Path(__file__).parent


def _read(*names: str) -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


class Lens(gr.HTML):
    """The viewer of a scene.

    Args:
        value: what :func:`workbench.views.lens.payload.payload` makes; ``{"message": ...}`` where there is nothing.
        goto: a frame to go to, or ``[frame, count]`` to go to the same one again.
        budget_mib: how many megabytes of decoded pictures the page may keep.
        **kwargs: as of ``gr.HTML``.

    Its ``select`` event says ``{"frame": ...}`` where somebody stays on a frame. Listen with
    ``trigger_mode="multiple"``: by Gradio's default a frame chosen while the handler still works on the one before is
    dropped, and with ``"always_last"`` the handler gets the data of the first.
    """

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        *,
        goto: int | list[int] | None = None,
        budget_mib: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            value=value,
            html_template=_read("lens.html"),
            css_template=_read("lens.css"),
            js_on_load=_read("chart.js", "lens.js"),
            apply_default_css=False,
            goto=goto,
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
            html_template=_read("progress.html"),
            css_template=_read("lens.css", "progress.css"),
            js_on_load=_read("chart.js", "progress.js"),
            apply_default_css=False,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        """The value is a JSON object."""
        return {"type": "object"}
