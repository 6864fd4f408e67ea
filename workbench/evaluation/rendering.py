"""Look at a network: its pictures, where it looks, what it remembers; and lay that into a scene."""

from __future__ import annotations

import math
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.choices import FeatureLayer
from workbench.distill.spatial import ATTENTION_KINDS, AttentionKind, attention_map
from workbench.distill.temporal import TemporalMemory
from workbench.inference.chunks import chunks
from workbench.metrics.fidelity import psnr_db, ssim
from workbench.metrics.temporal import flow, t_diff, tof
from workbench.models.video_sr import VideoSR
from workbench.scenes import Method, Overlay, SceneWriter
from workbench.tensors import to_uint8

MAP_LABELS: dict[AttentionKind, str] = {
    "sum_squares": "Where it looks: sum of squares",
    "sum_abs": "Where it looks: sum of magnitudes",
    "max_squares": "Where it looks: largest square",
}


@dataclass(frozen=True)
class Rendering:
    """What was seen of a network on one clip.

    Attributes:
        frames: uint8 ``(T, s*H, s*W, 3)``: what is scored, written and shown.
        maps: mapping -> attention maps ``(T, H, W)`` at low-resolution size, unit root mean square per frame; empty
            where the network has no high-resolution features.
        cells: memory cells after every frame, ``(T, K, h, w)``, averaged to low-resolution size where they are larger;
            None without features or memory.
    """

    frames: np.ndarray
    maps: Dictionary[AttentionKind, np.ndarray]
    cells: np.ndarray | None = None


def render(
    network: VideoSR,
    low: np.ndarray,
    *,
    memory: TemporalMemory | None = None,
    is_student: bool = True,
    tap: FeatureLayer = "hr",
    device: str | torch.device = "cpu",
    chunk_frames: int = 4,
) -> Rendering:
    """Run a network over a clip and keep what distillation compares.

    Args:
        network: any network; without high-resolution features there are only pictures.
        low: uint8 ``(T, H, W, 3)``; the high resolution for a network that sees it (``VideoSR.given``).
        memory: the ConvLSTM that reads its features; left out where the channels do not fit.
        is_student: whether its features go through the memory's adapter.
        tap: which features.
        device: where to compute.
        chunk_frames: frames at a time; features at high resolution are large.
    """
    return_features: FeatureLayer | None = tap if network.feature_channels else None
    frames: list[np.ndarray] = []
    maps: dict[AttentionKind, list[Tensor]] = {mapping: [] for mapping in ATTENTION_KINDS}
    thin: list[Tensor] = []
    for chunk in chunks(network, low, return_features=return_features, device=device, chunk_frames=chunk_frames):
        frames.append(to_uint8(chunk.upscaled.frames))
        features = chunk.upscaled.features
        if features is None:
            continue
        for mapping in ATTENTION_KINDS:
            maps[mapping].append(F.avg_pool2d(attention_map(features[0], kind=mapping)[:, None], network.scale)[:, 0])
        if memory is not None:
            thin.append(memory.to(device).pool(features.float()))
    cells = None
    if memory is not None and thin:
        with torch.inference_mode():
            remembered = memory.run_convlstm(torch.cat(thin, dim=1), student=is_student)[0]
        cells = F.avg_pool2d(remembered, max(network.scale // memory.stride, 1)).cpu().numpy()
    whole: dict[AttentionKind, np.ndarray] = {
        mapping: _unit_rms(torch.cat(parts)) for mapping, parts in maps.items() if parts
    }
    return Rendering(frames=np.concatenate(frames), maps=whole, cells=cells)


def _unit_rms(maps: Tensor) -> np.ndarray:
    """Each map divided by its root mean square: the unit-length map times the square root of its pixels."""
    return (maps / maps.square().mean(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-12)).cpu().numpy()


@dataclass(frozen=True)
class Scales:
    """The ends of the colour scales, shared by all methods (and all snapshots) so that maps can be compared."""

    maps: Dictionary[str, float]
    cells: float

    @classmethod
    def of(cls, seen: Rendering) -> Scales:
        """Scales that fit one look: nearly all values lie inside, a few bright ones are cut."""
        return cls(
            maps={str(mapping): _round_up(float(np.quantile(values, 0.995))) for mapping, values in seen.maps.items()},
            cells=_round_up(float(np.abs(seen.cells).max())) if seen.cells is not None else 1.0,
        )

    @classmethod
    def from_overlays(cls, overlays: tuple[Overlay, ...]) -> Scales:
        """The scales that a scene was written with."""
        return cls(
            maps={o.kind.removeprefix("attention_"): o.high for o in overlays if o.kind.startswith("attention_")},
            cells=max((o.high for o in overlays if o.kind == "memory"), default=1.0),
        )


def _round_up(value: float) -> float:
    """The next number with two digits."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.6g}")


def add_rendering(writer: SceneWriter, method: Method, seen: Rendering, scales: Scales, *, effort: int = 0) -> None:
    """Lay a look into a scene: pictures, one overlay a mapping, one for the memory."""
    writer.add_method(method, seen.frames, effort=effort)
    for mapping, values in seen.maps.items():
        overlay = Overlay(
            kind=f"attention_{mapping}",
            label=MAP_LABELS[mapping],
            method=method.key,
            low=0.0,
            high=scales.maps.get(mapping, 1.0),
            explain="Channel energy of the features before the last convolution, divided by its root mean square: "
            "1 is average, above 1 it looks harder.",
        )
        writer.add_overlay(overlay, values)
    if seen.cells is not None:
        overlay = Overlay(
            kind="memory",
            label="What it remembers: ConvLSTM cell",
            method=method.key,
            low=-scales.cells,
            high=scales.cells,
            diverging=True,
            explain="Cell state of the shared ConvLSTM after reading the clip up to this frame, averaged to low "
            "resolution where it is finer; one hidden channel.",
        )
        writer.add_overlay(overlay, seen.cells)


class Scores:
    """Per-frame scores of methods against one ground truth, whose optical flow is computed once.

    Args:
        high: uint8 ``(T, H, W, 3)``.
    """

    def __init__(self, high: np.ndarray) -> None:
        self.high = high
        self._flow = flow(high) if len(high) > 1 else None

    def add(self, writer: SceneWriter, method: str, frames: np.ndarray) -> None:
        """Add one method's curves to a scene: PSNR-Y, SSIM-Y, T-diff and tOF."""
        writer.add_curve("psnr_y_db", "PSNR-Y", "dB", "higher", method, psnr_db(frames, self.high))
        writer.add_curve("ssim_y", "SSIM-Y", "", "higher", method, ssim(frames, self.high))
        if self._flow is None:
            return
        writer.add_curve("t_diff", "T-diff", "8-bit levels", "lower", method, t_diff(frames, self.high))
        writer.add_curve("tof", "tOF", "px", "lower", method, tof(frames, self.high, reference_flow=self._flow))
