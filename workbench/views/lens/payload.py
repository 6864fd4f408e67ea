"""What the lens draws: a scene as one JSON value, pictures by address. No gradio, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.scenes import Overlay, Scene
from workbench.views import memory
from workbench.views.colours import DIVERGING, SEQUENTIAL, method_colours
from workbench.views.lens import readings


def payload(
    scene: Scene,
    address: Callable[[Path], str],
    *,
    link: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The value that the lens draws.

    Args:
        scene: a scene, or a snapshot of a run.
        address: folder of numbered pictures -> the address under which the browser finds it; the lens appends
            ``/00000.webp`` and so on.
        link: what the address of the page says of it, ``{"scene": name}`` or ``{"run": name, "step": "200"}``; the lens
            adds the frame and how it is looked at. None: the lens leaves the address alone.

    Returns:
        A JSON value: size, rate, ``methods`` with their colours, per-frame ``curves``, and ``overlays`` by kind. All
        maps of a kind lie on one scale (``low`` to ``high``), so that two sides can be compared; each map also says
        what its own grey 0 and 255 mean. Where the raw numbers are there, a kind also has ``overlap`` (method ->
        similarity to the teacher per frame) and, if it is not signed, ``reach`` (the end of the scale of differences),
        and the value has ``memory`` (the collapse index of the teacher's last cell, and what that means in words).
    """
    colours = method_colours(method.key for method in scene.methods)
    kinds: dict[str, list[Overlay]] = {}
    for overlay in scene.overlays:
        if overlay.method in colours:
            kinds.setdefault(overlay.kind, []).append(overlay)
    gap = readings.gap_curve(scene)
    remembered = _memory(scene, kinds.get("memory", ()))
    return {
        "id": scene.name,
        "title": scene.title,
        "width": scene.width,
        "height": scene.height,
        "frames": scene.frames,
        "fps": scene.fps,
        **({"times": list(scene.times_seconds)} if scene.times_seconds else {}),
        "methods": [
            {
                "key": method.key,
                "label": method.label,
                "note": method.note,
                "color": colours[method.key],
                "frames": address(scene.frame_path(method.key, 0).parent),
            }
            for method in scene.methods
        ],
        "curves": [
            {
                "key": curve.key,
                "label": curve.label,
                "unit": curve.unit,
                "better": curve.better,
                "series": {key: list(values) for key, values in curve.series.items() if key in colours},
            }
            for curve in scene.curves
        ]
        + ([GAP | {"series": gap}] if gap else []),
        "overlays": [_kind(scene, overlays, address) for overlays in kinds.values()],
        "sequential": list(SEQUENTIAL),
        "diverging": list(DIVERGING),
        **({"memory": remembered} if remembered else {}),
        **({"link": dict(link)} if link else {}),
    }


GAP = {"key": "gap_closed", "label": "Gap closed (PSNR-Y)", "unit": "%", "better": "higher"}


def _memory(scene: Scene, overlays: Sequence[Overlay]) -> dict[str, Any] | None:
    """The collapse index of the teacher's memory on this clip, in a number and in words."""
    values = readings.raw(scene, [overlay for overlay in overlays if overlay.method == readings.REFERENCE])
    cells = values.get(readings.REFERENCE)
    index = readings.collapse_index(cells) if cells is not None and cells.ndim == 4 else None
    measured = {memory.CLIP: index}
    return None if index is None else {
        "index": index, "verdict": memory.sentence(measured), "numbers": memory.numbers(measured),
    }  # fmt: skip


def _kind(scene: Scene, overlays: Sequence[Overlay], address: Callable[[Path], str]) -> dict[str, Any]:
    """All maps of one kind, on one scale."""
    first = overlays[0]
    values = readings.raw(scene, overlays)
    diverging = all(overlay.diverging for overlay in overlays)
    low, high = min(overlay.low for overlay in overlays), max(overlay.high for overlay in overlays)
    if diverging:  # zero stays in the middle
        high = max(abs(low), abs(high))
        low = -high
    return {
        "kind": first.kind,
        "label": first.label,
        "explain": first.explain,
        "low": low,
        "high": high,
        "diverging": diverging,
        **({"limits": limits} if (limits := readings.channel_limits(values)) else {}),
        "channels": max(overlay.channels for overlay in overlays),
        "stops": list(DIVERGING if diverging else SEQUENTIAL),
        "maps": {
            overlay.method: {
                "frames": address(scene.overlay_path(overlay, 0).parent),
                "low": overlay.low,
                "high": overlay.high,
                "channels": overlay.channels,
            }
            for overlay in overlays
        },
        "overlap": readings.similarity(values),
        "reach": readings.reach(values) if not diverging else None,
    }
