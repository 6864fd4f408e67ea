"""Render clips by networks: frames, attention maps and memory cells, and scenes of several methods.

This is the only place that runs a network over a clip for scores and for viewers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.choices import FeatureLayer
from workbench.data.datasets.clip_set import ClipEntry
from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.samples import samples
from workbench.data.sampling.crops import make_pair
from workbench.data.video.read import Video
from workbench.devices import device_of
from workbench.distill.spatial import ATTENTION_KINDS, AttentionKind, attention_map
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError, ResultError
from workbench.evaluation.clip_frames import read_low, stream_low
from workbench.evaluation.methods import LoadedMethod, find_memory, load_method, matches_memory
from workbench.inference.chunks import chunks, upscale_stream, upscale_window
from workbench.metrics import METRICS
from workbench.metrics.fidelity import psnr_db, ssim
from workbench.metrics.temporal import flow, t_diff, tof
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.models.windows import window_indices
from workbench.process import library_versions
from workbench.scenes import Method, Overlay, Scene, SceneWriter, read_scene, write_scene
from workbench.tensors import to_uint8

MAP_LABELS: dict[AttentionKind, str] = {
    "sum_squares": "Attention map: sum of squares",
    "sum_abs": "Attention map: sum of magnitudes",
    "max_squares": "Attention map: largest square",
}

CHUNK_FRAMES = 4
"""Frames that are rendered at once with their features, which are large at high resolution."""


@dataclass(frozen=True)
class Rendering:
    """Output of a network on one clip, and the quantities that distillation compares.

    Attributes:
        frames: uint8 ``(T, s*H, s*W, 3)``: the frames that are scored, written and shown.
        maps: attention kind -> maps ``(T, H, W)`` at low-resolution size, of unit root mean square per frame; empty
            where the network has no high-resolution features.
        cells: memory cells after every frame, ``(T, K, h, w)``, averaged to low-resolution size where they are larger;
            None without features or ConvLSTM.
    """

    frames: np.ndarray
    maps: Mapping[AttentionKind, np.ndarray]
    cells: np.ndarray | None = None


def render(
    network: VideoSR,
    low: np.ndarray,
    *,
    memory: TemporalMemory | None = None,
    is_student: bool = True,
    feature_layer: FeatureLayer = "hr",
    device: str | torch.device = "cpu",
) -> Rendering:
    """Render a clip in memory, with attention maps and memory cells.

    Args:
        network: any network; one without high-resolution features has frames only.
        low: uint8 ``(T, H, W, 3)``; the high resolution for a privileged network (see ``VideoSR.select_input``).
        memory: ConvLSTM for its features; None where the number of channels differs.
        is_student: whether the features go through the adapter of the ConvLSTM.
        feature_layer: layer of the features.
        device: where to compute.
    """
    layer: FeatureLayer | None = feature_layer if network.feature_channels else None
    frames: list[np.ndarray] = []
    maps: dict[AttentionKind, list[Tensor]] = {kind: [] for kind in ATTENTION_KINDS}
    pooled: list[Tensor] = []
    for chunk in chunks(network, low, return_features=layer, device=device, chunk_frames=CHUNK_FRAMES):
        frames.append(to_uint8(chunk.upscaled.frames))
        features = chunk.upscaled.features
        if features is None:
            continue
        for kind, kept in maps.items():
            kept.append(F.avg_pool2d(attention_map(features[0], kind=kind)[:, None], network.scale)[:, 0])
        if memory is not None:
            pooled.append(memory.to(device).pool(features.float()))
    cells = None
    if memory is not None and pooled:  # one pass over the whole clip: a state must not restart at a chunk
        with torch.inference_mode():
            states = memory.run_convlstm(torch.cat(pooled, dim=1), student=is_student)[0]
        cells = F.avg_pool2d(states, max(network.scale // memory.stride, 1)).cpu().numpy()
    whole: dict[AttentionKind, np.ndarray] = {
        kind: _unit_rms(torch.cat(parts)) for kind, parts in maps.items() if parts
    }
    return Rendering(frames=np.concatenate(frames), maps=whole, cells=cells)


def render_frames(
    network: VideoSR,
    clip: ClipEntry,
    numbers: Sequence[int],
    *,
    degradation: str,
    device: str | torch.device | None = None,
) -> Iterator[np.ndarray]:
    """Render some frames of a clip of any length: uint8 ``(s*H, s*W, 3)``, equal to those of the whole clip.

    A sliding window computes their windows only where that is less work. A network that depends on the whole clip
    (``temporal_radius`` None) gets all of its low resolution at once.

    Args:
        network: any network.
        clip: the clip; its low resolution is read from disk, or degraded here.
        numbers: frame numbers in increasing order.
        degradation: family of the low resolution.
        device: where to compute; the network's own device by default.

    Raises:
        ResultError: NaN or infinity in a frame; the message names clip and frame.
    """
    device = device or device_of(network)
    first = 0  # of the chunk that is being computed
    try:
        if isinstance(network, SlidingWindow) and 2 * len(numbers) <= clip.frames:
            for number in numbers:
                first = number
                window = window_indices(clip.frames, network.num_frames, network.border, first=number, last=number + 1)
                start, stop = int(window.min()), int(window.max()) + 1
                low = read_low(clip, degradation, start, stop)
                yield upscale_window(network, low, (window[0] - start).tolist(), device=device)
            return
        if network.temporal_radius is None:
            low = np.stack(list(stream_low(clip, degradation)))
            frames: Iterable[np.ndarray] = (
                frame for chunk in chunks(network, low, device=device) for frame in to_uint8(chunk.upscaled.frames)
            )
        else:
            frames = upscale_stream(network, stream_low(clip, degradation), device=device)
        wanted = frozenset(numbers)
        for number, frame in enumerate(frames):
            first = number + 1
            if number in wanted:
                yield frame
    except ResultError as error:
        number = first + error.frame
        reason = str(error).partition(": ")[2]
        raise ResultError(f"{clip.name}, frame {number}: {reason}", number) from error


# -- scenes ---------------------------------------------------------------------------------------------------------


def _unit_rms(maps: Tensor) -> np.ndarray:
    """Divide each map by its root mean square."""
    return (maps / maps.square().mean(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-12)).cpu().numpy()


@dataclass(frozen=True)
class Scales:
    """Upper ends of the color scales, shared by all methods and snapshots so that maps can be compared."""

    maps: Mapping[str, float]
    cells: float

    @classmethod
    def of(cls, rendering: Rendering) -> Scales:
        """Return scales for a rendering that clip 0.5 % of the map values, and no cell."""
        return cls(
            maps={str(kind): _round_up(float(np.quantile(values, 0.995))) for kind, values in rendering.maps.items()},
            cells=_round_up(float(np.abs(rendering.cells).max())) if rendering.cells is not None else 1.0,
        )


def _round_up(value: float) -> float:
    """Round a positive number up to two digits."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.6g}")


def add_rendering(
    writer: SceneWriter, method: Method, rendering: Rendering, scales: Scales, *, compression: int = 0
) -> None:
    """Add a rendering to a scene: frames, one overlay for each kind of attention map, one for the memory cells."""
    writer.add_method(method, rendering.frames, compression=compression)
    for kind, values in rendering.maps.items():
        overlay = Overlay(
            kind=f"attention_{kind}",
            label=MAP_LABELS[kind],
            method=method.key,
            low=0.0,
            high=scales.maps.get(kind, 1.0),
            explain="Channel energy of the features before the last convolution, divided by its root mean square: "
            "1 is the mean energy of a frame.",
        )
        writer.add_overlay(overlay, values)
    if rendering.cells is not None:
        overlay = Overlay(
            kind="memory",
            label="Memory cells (ConvLSTM)",
            method=method.key,
            low=-scales.cells,
            high=scales.cells,
            diverging=True,
            explain="Cell state of the shared ConvLSTM after reading the clip up to this frame, averaged to low "
            "resolution where it is finer; one hidden channel.",
        )
        writer.add_overlay(overlay, rendering.cells)


class SceneScorer:
    """Per-frame scores of methods against one ground truth, with its optical flow computed once.

    Args:
        ground_truth: uint8 ``(T, H, W, 3)``.
    """

    def __init__(self, ground_truth: np.ndarray) -> None:
        self.ground_truth = ground_truth
        self._flow = flow(ground_truth) if len(ground_truth) > 1 else None

    def add(self, writer: SceneWriter, method: str, frames: np.ndarray) -> None:
        """Add one method's curves to a scene: PSNR-Y, SSIM-Y, and of clips T-diff and tOF."""
        curves = {"psnr_y_db": psnr_db(frames, self.ground_truth), "ssim_y": ssim(frames, self.ground_truth)}
        if self._flow is not None:
            curves["t_diff"] = t_diff(frames, self.ground_truth)
            curves["tof"] = tof(frames, self.ground_truth, reference_flow=self._flow)
        for name, curve in curves.items():
            metric = METRICS[name]
            better = "higher" if metric.higher_is_better else "lower"
            writer.add_curve(name, metric.title, metric.unit, better, method, curve)


def render_scene(
    clip: str | Video,
    methods: Sequence[str],
    folder: Path,
    *,
    scale: int = 4,
    degradation: str = "bi",
    has_ground_truth: bool = True,
    title: str = "",
    runs: Sequence[Path] = (),
    device: str | torch.device = "cpu",
    replace: bool = False,
    compression: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Scene:
    """Downsample a clip, upscale it by each method, and write the results with their scores as a scene.

    Args:
        clip: name of a sample, or a path, with an optional crop ``[frames, rows, columns]``; or frames.
        methods: names, see :func:`workbench.evaluation.methods.load_method`.
        folder: folder of the scene; its name is the scene's name.
        scale: downsampling factor.
        degradation: family of the downsampling.
        has_ground_truth: whether the clip is the ground truth; else it is the low resolution, and nothing is scored.
        title: title for people; the clip's name where it is empty.
        runs: folders that contain runs.
        device: where to compute.
        replace: whether to overwrite an existing scene.
        compression: effort of the lossless compression, 0 to 6.
        progress: called with the name of each stage.

    Raises:
        ConfigError: no method, one named twice, or one of another scale.
    """
    if not methods:
        raise ConfigError("methods: name at least one, for example bicubic,plain,distilled,teacher")
    loaded = [load_method(name, scale=scale, runs=runs) for name in methods]
    keys = [one.method.key for one in loaded]
    if doubled := {key for key in keys if keys.count(key) > 1}:
        raise ConfigError(f"methods: named twice: {', '.join(sorted(doubled))}")
    for one in loaded:
        if one.network.scale != scale:
            raise ConfigError(f"{one.method.label} enlarges {one.network.scale}x, not {scale}x")
    memory = find_memory(methods, runs)
    video, name = (clip, title) if isinstance(clip, Video) else (load_clip(clip), clip)
    pair = make_pair(video.frames, scale=scale, degradation=degradation) if has_ground_truth else None
    low = video.frames if pair is None else pair.low
    renderings: list[Rendering] = []
    for one in loaded:
        progress(one.method.label)
        own = memory if memory is not None and matches_memory(memory, one) else None
        renderings.append(render(one.network, low, memory=own, is_student=one.is_student, device=device))
    progress("frames" if pair is None else "scores and frames")
    with write_scene(folder, replace=replace) as writer:
        writer.add_method(
            Method(key="low", label="Low resolution", note="input of the networks"), low, compression=compression
        )
        if pair is not None:
            writer.add_method(Method(key="high", label="Ground truth"), pair.high, compression=compression)
        _add_renderings(writer, loaded, renderings, None if pair is None else pair.high, compression)
        protocol = {"degradation": degradation, "scale": scale, "channel": "Y", "crop_border": 0, "quantized": "8 bit"}
        writer.finish(
            name=folder.name,
            title=title or name,
            fps=video.fps,
            times_seconds=video.boundaries_seconds,
            pixel_aspect=video.pixel_aspect,
            protocol=protocol if pair else {"scale": scale, "scores": "none: there is no ground truth"},
            provenance={
                "clip": name,
                **_credit(name),
                "memory": "ConvLSTM of the distilled run, for all methods" if memory is not None else "none",
                "versions": library_versions("torch", "opencv-python-headless"),
            },
        )
    return read_scene(folder)


def _add_renderings(
    writer: SceneWriter,
    methods: Sequence[LoadedMethod],
    renderings: Sequence[Rendering],
    ground_truth: np.ndarray | None,
    compression: int,
) -> None:
    """Add renderings on shared color scales: those of the teacher, or of the first network with maps."""
    with_maps = sorted((method.is_student, number) for number, method in enumerate(methods) if renderings[number].maps)
    scales = Scales.of(renderings[with_maps[0][1]]) if with_maps else Scales(maps={}, cells=1.0)
    scorer = None if ground_truth is None else SceneScorer(ground_truth)
    for method, rendering in zip(methods, renderings, strict=True):
        add_rendering(writer, method.method, rendering, scales, compression=compression)
        if scorer is not None:
            scorer.add(writer, method.method.key, rendering.frames)


def _credit(clip: str) -> dict[str, str]:
    """Return credit and license of a sample clip; empty for other clips."""
    for sample in samples():
        if clip.partition("[")[0].strip() == sample.name:
            return {"credit": sample.credit, "licence": sample.license}
    return {}
