"""Model cards in the metadata format of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.metrics import METRICS
from workbench.models.hub import LIBRARY
from workbench.models.video_sr import VideoSR, count_parameters


def model_card(
    network: VideoSR, name: str, text: str = "", *, license: str = "unknown", scores: Mapping[str, float] | None = None
) -> str:
    """Return a model card: metadata of the hub as YAML, and a text.

    Args:
        network: the network, with its recipe.
        name: title of the model.
        text: Markdown; a table of the network's settings by default. Metadata at its beginning is kept as it is.
        license: identifier of the license, as the hub lists them.
        scores: values of :data:`workbench.metrics.METRICS`.
    """
    from huggingface_hub import EvalResult, ModelCardData

    if text.startswith("---\n"):
        return text
    task, scores = "image-to-image" if network.temporal_radius == 0 else "video-to-video", dict(scores or {})
    data = ModelCardData(
        license=license, library_name=LIBRARY, pipeline_tag=task,
        tags=["super-resolution", "video-super-resolution", network.recipe["name"]],
        metrics=sorted({key.partition("_")[0] for key in scores}) or None,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=task, dataset_type="validation-clip", dataset_name="Validation clip",
                metric_type=key.partition("_")[0], metric_name=METRICS[key].heading,
                metric_value=round(value, METRICS[key].digits),
            )
            for key, value in scores.items()
        ] or None,
    )  # fmt: skip
    rows = {**network.recipe, "parameters": f"{count_parameters(network):,}"}
    rows |= {METRICS[key].heading: f"{value:.{METRICS[key].digits}f}" for key, value in scores.items()}
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    text = text or f"# {name}\n\nA network for video super-resolution.\n\n| | |\n| --- | --- |\n{table}\n"
    return f"---\n{data.to_yaml()}\n---\n\n{text}"
