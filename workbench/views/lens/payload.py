"""A scene as the JSON value that the lens draws, with the URLs of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from workbench.errors import unknown_name
from workbench.metrics.memory_cells import collapse_index
from workbench.scenes import Overlay, Scene
from workbench.views import memory_verdict
from workbench.views.colors import DIVERGING, SEQUENTIAL, method_colors
from workbench.views.lens import scene_stats


def payload(
    scene: Scene,
    url_of: Callable[[Path], str],
    *,
    link: Mapping[str, str] | None = None,
    losses: str = "",
) -> dict[str, Any]:
    """Return the value that the lens draws.

    Args:
        scene: a scene, or a snapshot of a run.
        url_of: function that returns the URL of a folder of numbered images; the lens appends ``/00000.webp``.
        link: query parameters of the page that name it, ``{"scene": name}`` or ``{"run": name, "step": "200"}``; the
            lens adds the frame and the view. None: the lens does not change the URL of the page.
        losses: sentence on the losses of the students, shown above the frames.

    Returns:
        A JSON value: size, rate, ``methods`` with their colors, per-frame ``curves``, and ``overlays``, one per kind of
        map, and ``sides``, where the scene names them. ``vmin`` and ``vmax`` of a kind are the limits of its colors for
        all methods; those of a method (``by_method``) are the values of gray levels 0 and 255 in its images. With the
        numbers in ``arrays.npz`` a kind also has ``cosine_to_teacher`` (method -> cosine per frame),
        ``difference_limit`` (color limit of differences, for maps without a sign), ``channel_limits`` (color limit of
        each channel of signed maps), and the value has ``memory`` (collapse index of the teacher's memory cells after
        the last frame, with its verdict).
    """
    colors = method_colors(method.key for method in scene.methods)
    kinds: dict[str, list[Overlay]] = {}
    for overlay in scene.overlays:
        if overlay.method in colors:
            kinds.setdefault(overlay.kind, []).append(overlay)
    gap = scene_stats.gap_curve(scene)
    memory = _memory(scene, kinds.get("memory", ()))
    return {
        "id": scene.name,
        "title": scene.title,
        "width": scene.width,
        "height": scene.height,
        "frame_count": scene.frames,
        "fps": scene.fps,
        **({"times": list(scene.times_seconds)} if scene.times_seconds else {}),
        "methods": [
            asdict(method)
            | {"color": colors[method.key], "image_folder": url_of(scene.frame_path(method.key, 0).parent)}
            for method in scene.methods
        ],
        "curves": [
            asdict(curve) | {"series": {key: list(values) for key, values in curve.series.items() if key in colors}}
            for curve in scene.curves
        ]
        + ([GAP | {"series": gap}] if gap else []),
        "overlays": [_kind(scene, overlays, url_of) for overlays in kinds.values()],
        "diverging": list(DIVERGING),
        **({"sides": list(scene.sides)} if scene.sides else {}),
        **({"memory": memory} if memory else {}),
        **({"link": dict(link)} if link else {}),
        **({"losses": losses} if losses else {}),
    }


def select_methods(scene: Scene, methods: Sequence[str] | None) -> Scene:
    """Return a scene with some of its methods, in this order; without keys: all.

    Raises:
        UnknownNameError: unknown method.
    """
    if not methods:
        return scene
    keys = [method.key for method in scene.methods]
    for key in methods:
        if key not in keys:
            raise unknown_name("method", key, keys)
    return replace(scene, methods=tuple(scene.method(key) for key in dict.fromkeys(methods)))


GAP = {"key": "gap_closed", "label": "Gap closed (PSNR-Y)", "unit": "%", "better": "higher"}


def _memory(scene: Scene, overlays: Sequence[Overlay]) -> dict[str, Any] | None:
    """Return the collapse index of the teacher's memory cells on this clip, and its verdict."""
    values = scene_stats.arrays(scene, [overlay for overlay in overlays if overlay.method == scene_stats.REFERENCE])
    cells = values.get(scene_stats.REFERENCE)
    index = collapse_index(cells[-1]) if cells is not None and cells.ndim == 4 else None
    if index is None:
        return None
    measured = {memory_verdict.CLIP: index}
    texts = {"verdict": memory_verdict.sentence(measured), "numbers": memory_verdict.numbers(measured)}
    return {"index": round(index, 4), **texts}


def _kind(scene: Scene, overlays: Sequence[Overlay], url_of: Callable[[Path], str]) -> dict[str, Any]:
    """Return all maps of one kind, on one scale."""
    first = overlays[0]
    values = scene_stats.arrays(scene, overlays)
    diverging = all(overlay.diverging for overlay in overlays)
    vmin, vmax = min(overlay.vmin for overlay in overlays), max(overlay.vmax for overlay in overlays)
    limits = scene_stats.channel_limits(values) if diverging else []
    if diverging:  # zero stays in the middle
        vmax = max(abs(vmin), abs(vmax))
        vmin = -vmax
    return {
        "kind": first.kind,
        "label": first.label,
        "explain": first.explain,
        "vmin": vmin,
        "vmax": vmax,
        **({"channel_limits": limits} if limits else {}),
        "channels": max(overlay.channels for overlay in overlays),
        "stops": list(DIVERGING if diverging else SEQUENTIAL),
        "by_method": {
            overlay.method: {
                "image_folder": url_of(scene.overlay_path(overlay, 0).parent),
                "vmin": overlay.vmin,
                "vmax": overlay.vmax,
                "channels": overlay.channels,
            }
            for overlay in overlays
        },
        "cosine_to_teacher": scene_stats.similarity(values),
        "difference_limit": scene_stats.difference_limit(values) if not diverging else None,
    }
