"""Render clips by networks: frames, attention maps and memory cells, and scenes of several methods.

Scoring and viewers get network outputs only through this module. Symbols: ``workbench.models.video_sr``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.amounts import round_up
from workbench.choices import FeatureLayer
from workbench.data.datasets.clip_set import ClipEntry
from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.samples import credit_of
from workbench.data.sampling.crops import make_pair
from workbench.data.video.read import Video
from workbench.devices import device_of
from workbench.distill.spatial import ATTENTION_KINDS, AttentionKind, attention_map
from workbench.distill.temporal import TemporalMemory, load_memory
from workbench.errors import ConfigError, ResultError
from workbench.evaluation.methods import LoadedMethod, find_memory, load_methods, matches_memory
from workbench.inference.chunks import chunks, upscale_stream, upscale_window
from workbench.metrics import METRICS
from workbench.metrics.fidelity import psnr_db, ssim
from workbench.metrics.temporal import farneback_flow, t_diff, tof
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.models.weights import checksum
from workbench.models.windows import window_indices
from workbench.process import library_versions
from workbench.scenes import Method, Overlay, Scene, SceneWriter, read_scene, write_scene

MAP_LABELS: dict[AttentionKind, str] = {
    "sum_squares": "Attention map: sum of squares",
    "sum_abs": "Attention map: sum of magnitudes",
    "max_squares": "Attention map: largest square",
}

CHUNK_FRAMES = 4
"""Frames that are rendered at once with their features, which are large at high resolution."""

MAX_WINDOW_SHARE = 0.5
"""Largest share of a clip's frames that a sliding window renders frame by frame, instead of the whole clip."""


@dataclass(frozen=True)
class Rendering:
    """Output of a network on one clip, and the quantities that distillation compares.

    Attributes:
        frames: uint8 ``(T, s*H, s*W, 3)``: the frames for scores, files and viewers.
        maps: attention kind -> float32 maps ``(T, H, W)`` at low-resolution size, of unit root mean square per frame;
            empty where the network has no high-resolution features.
        cells: float32 memory cells after every frame, ``(T, K, h, w)``, averaged to low-resolution size where they are
            larger; None without features or ConvLSTM.
    """

    frames: np.ndarray
    maps: Mapping[AttentionKind, np.ndarray]
    cells: np.ndarray | None = None


def render(
    network: VideoSR,
    network_input: np.ndarray,
    *,
    memory: TemporalMemory | None = None,
    use_adapter: bool = True,
    feature_layer: FeatureLayer = "hr",
    device: str | torch.device | None = None,
) -> Rendering:
    """Render a clip in memory, with attention maps and memory cells.

    Args:
        network: any network; one without high-resolution features has frames only.
        network_input: uint8 ``(T, H, W, 3)``: the low resolution, or the high one for a privileged network (see
            ``VideoSR.select_input``).
        memory: ConvLSTM that reads the network's features, or None if it expects another channel count.
        use_adapter: whether the features go through the adapter of the ConvLSTM, as a student's do.
        feature_layer: layer whose features are rendered.
        device: where to compute, ``memory`` included; by default the network's own device.
    """
    device = device or device_of(network)
    if memory is not None:
        memory.to(device)
    return_features: FeatureLayer | None = feature_layer if network.feature_channels else None
    frames: list[np.ndarray] = []
    maps: dict[AttentionKind, list[Tensor]] = {kind: [] for kind in ATTENTION_KINDS}
    pooled: list[Tensor] = []
    for chunk in chunks(
        network, network_input, return_features=return_features, device=device, chunk_frames=CHUNK_FRAMES
    ):
        frames.append(chunk.to_uint8())
        features = chunk.upscaled.features
        if features is None:
            continue
        for kind, parts in maps.items():
            parts.append(F.avg_pool2d(attention_map(features[0], kind=kind)[:, None], network.scale)[:, 0])
        if memory is not None:
            pooled.append(memory.pool(features.float()))
    pooled_cells = None
    if memory is not None and pooled:  # one pass over the whole clip: a state must not restart at a chunk
        with torch.inference_mode():
            cells = memory.run_convlstm(torch.cat(pooled, dim=1), student=use_adapter)[0]
        pooled_cells = F.avg_pool2d(cells, max(network.scale // memory.stride, 1)).cpu().numpy()
    whole_maps: dict[AttentionKind, np.ndarray] = {
        kind: _unit_rms(torch.cat(parts)) for kind, parts in maps.items() if parts
    }
    return Rendering(frames=np.concatenate(frames), maps=whole_maps, cells=pooled_cells)


def render_frames(
    network: VideoSR,
    clip: ClipEntry,
    frame_indices: Sequence[int],
    *,
    degradation: str,
    device: str | torch.device | None = None,
) -> Iterator[np.ndarray]:
    """Render some frames of a clip of any length: uint8 ``(s*H, s*W, 3)``, equal to those of the whole clip.

    For a sliding-window network only the needed windows are computed, if at most half of the frames are requested. A
    network that depends on the whole clip (``temporal_radius`` None) gets all of its low resolution at once.

    Args:
        network: any network.
        clip: the clip; its low resolution is read from disk, or degraded here.
        frame_indices: indices in the clip, from 0, in increasing order.
        degradation: family of the low resolution.
        device: where to compute; the network's own device by default.

    Raises:
        ResultError: NaN or infinity in a frame; the message names clip and frame.
    """
    try:
        if isinstance(network, SlidingWindow) and len(frame_indices) <= MAX_WINDOW_SHARE * clip.frames:
            for index in frame_indices:
                window = window_indices(clip.frames, network.num_frames, network.border, first=index, last=index + 1)
                start, stop = int(window.min()), int(window.max()) + 1
                low = clip.read_low(degradation, start, stop)
                yield upscale_window(network, low, (window[0] - start).tolist(), device=device, index=index)
            return
        requested = frozenset(frame_indices)
        for index, frame in enumerate(_render_all(network, clip, degradation, device)):
            if index in requested:
                yield frame
    except ResultError as error:
        raise ResultError(error.reason, error.frame, f"{clip.name}, frame {error.frame}") from error


def _render_all(
    network: VideoSR, clip: ClipEntry, degradation: str, device: str | torch.device | None
) -> Iterator[np.ndarray]:
    """Render all frames of a clip."""
    if network.temporal_radius is not None:
        return upscale_stream(network, clip.stream_low(degradation), device=device)
    low = np.stack(list(clip.stream_low(degradation)))
    return (frame for chunk in chunks(network, low, device=device) for frame in chunk.to_uint8())


def _unit_rms(maps: Tensor) -> np.ndarray:
    """Divide each map by its root mean square."""
    return (maps / maps.square().mean(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-12)).cpu().numpy()


# -- scenes: frames, overlays and scores of several methods on one clip ----------------------------------------------


@dataclass(frozen=True)
class ColorLimits:
    """Upper ends of the color scales, shared by all methods and snapshots so that maps can be compared.

    Attributes:
        maps: attention kind -> upper end; the lower one is 0.
        cells: upper end for memory cells; the lower one is its negative.
    """

    maps: Mapping[str, float]
    cells: float

    @classmethod
    def of(cls, rendering: Rendering) -> ColorLimits:
        """Return limits at the 99.5th percentile of the maps and at the largest cell magnitude."""
        return cls(
            maps={str(kind): round_up(float(np.quantile(values, 0.995))) for kind, values in rendering.maps.items()},
            cells=round_up(float(np.abs(rendering.cells).max())) if rendering.cells is not None else 1.0,
        )


def add_rendering(
    writer: SceneWriter, method: Method, rendering: Rendering, limits: ColorLimits, *, compression: int = 0
) -> None:
    """Add a rendering to a scene: frames, one overlay for each kind of attention map, one for the memory cells."""
    writer.add_method(method, rendering.frames, compression=compression)
    for kind, values in rendering.maps.items():
        overlay = Overlay(
            kind=f"attention_{kind}",
            label=MAP_LABELS[kind],
            method=method.key,
            vmin=0.0,
            vmax=limits.maps.get(kind, 1.0),
            explain="One number per pixel from all channels of the features at high resolution, divided by the root "
            "mean square over the frame.",
        )
        writer.add_overlay(overlay, values)
    if rendering.cells is not None:
        overlay = Overlay(
            kind="memory",
            label="Memory cells (ConvLSTM)",
            method=method.key,
            vmin=-limits.cells,
            vmax=limits.cells,
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
        self._flow = farneback_flow(ground_truth) if len(ground_truth) > 1 else None

    def add(self, writer: SceneWriter, method: str, frames: np.ndarray) -> None:
        """Add one method's curves to a scene: PSNR-Y and SSIM-Y, and, for more than one frame, T-diff and tOF."""
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
    clip_is_ground_truth: bool = True,
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
        clip_is_ground_truth: if false, the clip is the low resolution, and nothing is scored.
        title: title for people; the clip's name where it is empty.
        runs: folders that contain runs.
        device: where to compute.
        replace: whether to overwrite an existing scene.
        compression: effort of the lossless compression, 0 to 6.
        progress: called with the name of each stage.

    Raises:
        ConfigError: no method, two with the same key, or one of another scale.
    """
    loaded_methods = _load_methods(methods, scale, runs)
    memory_file = find_memory(methods, runs)
    memory = load_memory(memory_file) if memory_file is not None else None
    video, clip_name = (clip, title) if isinstance(clip, Video) else (load_clip(clip), clip)
    pair = make_pair(video.frames, scale=scale, degradation=degradation) if clip_is_ground_truth else None
    low = video.frames if pair is None else pair.low
    renderings: list[Rendering] = []
    for loaded in loaded_methods:
        progress(loaded.method.label)
        matching = memory if memory is not None and matches_memory(memory, loaded) else None
        renderings.append(render(loaded.network, low, memory=matching, use_adapter=loaded.is_student, device=device))
    users = [
        m.method.key for m, rendering in zip(loaded_methods, renderings, strict=True) if rendering.cells is not None
    ]
    progress("frames" if pair is None else "scores and frames")
    with write_scene(folder, replace=replace) as writer:
        writer.add_method(
            Method(key="low", label="Low resolution", note="input of the networks"), low, compression=compression
        )
        if pair is not None:
            writer.add_method(Method(key="high", label="Ground truth"), pair.high, compression=compression)
        _add_methods(writer, loaded_methods, renderings, None if pair is None else pair.high, compression)
        protocol = {"degradation": degradation, "scale": scale, "channel": "Y", "crop_border": 0, "quantized": "8 bit"}
        writer.finish(
            name=folder.name,
            title=title or clip_name,
            fps=video.fps,
            times_seconds=video.boundaries_seconds,
            pixel_aspect=video.pixel_aspect,
            protocol=protocol if pair else {"scale": scale, "scores": "none: there is no ground truth"},
            provenance={
                "clip": clip_name,
                **credit_of(clip_name),
                "memory": _memory_note(memory_file, users),
                "versions": library_versions("torch", "opencv-python-headless"),
            },
        )
    return read_scene(folder)


def _load_methods(names: Sequence[str], scale: int, runs: Sequence[Path]) -> list[LoadedMethod]:
    """Load methods, and check that each upscales by ``scale`` and occurs once."""
    if not names:
        raise ConfigError("methods: name at least one, for example bicubic,plain,distilled,teacher")
    methods = load_methods(names, scale=scale, runs=runs)
    for loaded in methods:
        if loaded.network.scale != scale:
            raise ConfigError(f"{loaded.method.label} enlarges {loaded.network.scale}x, not {scale}x")
    return methods


def _add_methods(
    writer: SceneWriter,
    methods: Sequence[LoadedMethod],
    renderings: Sequence[Rendering],
    ground_truth: np.ndarray | None,
    compression: int,
) -> None:
    """Add the renderings of all methods, with the color limits of one of them, and their scores.

    The limits are those of the teacher, or of the first network with maps.
    """
    pairs = list(zip(methods, renderings, strict=True))
    with_maps = [pair for pair in pairs if pair[1].maps]
    reference = next((pair for pair in with_maps if not pair[0].is_student), next(iter(with_maps), None))
    limits = ColorLimits.of(reference[1]) if reference is not None else ColorLimits(maps={}, cells=1.0)
    scorer = None if ground_truth is None else SceneScorer(ground_truth)
    for loaded, rendering in pairs:
        add_rendering(writer, loaded.method, rendering, limits, compression=compression)
        if scorer is not None:
            scorer.add(writer, loaded.method.key, rendering.frames)


def _memory_note(path: Path | None, methods: Sequence[str]) -> str:
    """Return file and users of the ConvLSTM, for the provenance."""
    if path is None or not methods:
        return "none"
    return f"{path.parent.name}/{path.name} (sha256 {checksum(path)[:12]}), for {', '.join(methods)}"
