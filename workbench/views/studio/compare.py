"""Compare page: one scene, its scores and its provenance."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.views.lens.gradio_lens import lens_viewer
from workbench.views.serving import session_of
from workbench.views.student_losses import shipped_sentences
from workbench.views.studio.folders import Studio, select_by_name
from workbench.views.studio.page import ACTION, IMMEDIATE, heading_with_tour


def compare_page(app: gr.Blocks, studio: Studio) -> None:
    """Lay out the page."""
    heading_with_tour(
        "Compare",
        "A scene is a short clip that several networks upscale: a costly one (the teacher), and a fast one that was "
        "trained without it (the plain student) and with it (the distilled student). Drag the line over a texture, and "
        "play the clip to compare flicker. Attention maps show where a network looks, memory cells what it remembers. "
        + shipped_sentences(),
    )
    with gr.Row(elem_classes="pick"):
        choice = gr.Dropdown([], label="Scene", elem_id="scene", scale=6, container=False)
        refresh = gr.Button("Refresh", elem_id="scene-refresh", size="sm", scale=0, min_width=96)
    lens = lens_viewer({"message": "Loading …"}, elem_id="compare-lens")
    about = gr.HTML(js_on_load=None, elem_id="scene-tables")

    def load(known: str | None, request: gr.Request) -> tuple[Any, dict[str, Any], str]:
        session = session_of(request)
        choices = studio.scene_choices(session)
        is_known = known in [value for _, value in choices]
        value = known if is_known else select_by_name(choices, request.query_params.get("scene"))
        return gr.Dropdown(choices=choices, value=value), *studio.scene(value, session)

    def pick(choice: str | None, request: gr.Request) -> tuple[dict[str, Any], str]:
        return studio.scene(choice, session_of(request))

    app.load(load, choice, [choice, lens, about], **IMMEDIATE)
    refresh.click(load, choice, [choice, lens, about], **ACTION)
    choice.input(pick, choice, [lens, about], trigger_mode="always_last", **IMMEDIATE)
