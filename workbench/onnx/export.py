"""Export of networks to ONNX, in float32, half precision or 8 bits, with a comparison with PyTorch.

The file contains the network and nothing of its training: no teacher, no adapters, no ConvLSTM. Two files can be
compared to show that a distilled student costs as much as the plain one (:mod:`workbench.onnx.compare`).

The graph is made by PyTorch's tracing exporter. Tracing freezes decisions that depend on values, so every file is run
on clips of other lengths and sizes than the traced one, and its frames must equal those of PyTorch. If a graph for any
length and size fails, a more restricted one is tried.
"""

from __future__ import annotations

import copy
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from workbench.atomic_files import write_atomic
from workbench.data.datasets.samples import sample
from workbench.data.sampling.crops import Pair, make_pair
from workbench.errors import ConfigError, WeightsError, require_at_least
from workbench.metrics.fidelity import psnr_db
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.models.windows import window_indices
from workbench.onnx.compare import operators
from workbench.onnx.run import METADATA_KEY, OnnxMetadata, import_optional, open_exported
from workbench.onnx.trace import axes_of, trace
from workbench.tensors import to_float, to_uint8

Format = Literal["fp32", "fp16", "int8"]
FORMATS: tuple[Format, ...] = get_args(Format)

MAX_DIFFERENCE = 1 / 510
"""Half a step of 8 bits: largest difference from PyTorch at any pixel for a float32 graph."""

CLIP_FRAMES = 8
"""Default length of a clip for networks that carry a state along the clip."""

FLOAT_LAYERS = ("motion", "flow", "offset")
"""Parts of the names of layers that estimate motion. They stay in float: an error of half a pixel blurs."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Result of an export, and its comparison with PyTorch on a real clip.

    Attributes:
        path: the file.
        metadata: stored in the file.
        free: axes of any length: of ``batch``, ``time``, ``height``, ``width``.
        bytes: of the file.
        operators: number of occurrences of each.
        difference: largest difference from PyTorch in float32 at any pixel, for values in [0, 1].
        psnr_db: PSNR of its frames, on luma, mean over the frames.
        torch_psnr_db: the same of PyTorch in float32.
        refused: more general graphs, and the reasons why they were rejected.
    """

    path: Path
    metadata: OnnxMetadata
    free: tuple[str, ...]
    bytes: int
    operators: dict[str, int]
    difference: float
    psnr_db: float
    torch_psnr_db: float
    refused: tuple[str, ...]

    @property
    def loss_db(self) -> float:
        """Loss of PSNR against PyTorch in float32."""
        return self.torch_psnr_db - self.psnr_db


def check_pair(scale: int) -> Pair:
    """Return the clip of the comparison: five frames of the sample clip on which no shipped student was trained."""
    return make_pair(sample("bigbuckbunny", frames=(110, 115)).frames, scale=scale)


def calibration_clips(scale: int, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Return the clips for the ranges of 8-bit layers: three frames from each of five places of the sample clips.

    None of them is in :func:`check_pair`. Each is uint8 ``(3, H, W, 3)``, low resolution.

    Args:
        scale: of the network.
        size: height and width to cut from the upper left of each; smaller clips are left out. By default all of them.
    """
    places = (("bigbuckbunny", 0), ("bigbuckbunny", 60), ("bikes", 0), ("bikes", 150), ("carphone", 60))
    clips = [make_pair(sample(name, frames=(first, first + 3)).frames, scale=scale).low for name, first in places]
    if size is None:
        return clips
    height, width = size
    return [low[:, :height, :width] for low in clips if low.shape[1] >= height and low.shape[2] >= width]


def export(
    network: VideoSR,
    path: str | os.PathLike[str],
    *,
    precision: Format = "fp32",
    frames: int = CLIP_FRAMES,
    size: tuple[int, int] | None = None,
    check: Pair | None = None,
    calibration: Sequence[np.ndarray] = (),
    replace_file: bool = False,
) -> Export:
    """Write a network as ONNX and compare its frames with those of PyTorch.

    Args:
        network: any that upscales; not changed.
        path: the ``.onnx`` file.
        precision: ``fp32``; ``fp16``: convolutions in half precision, but motion estimation, upsampling and sums in
            float32; ``int8``: convolutions in 8 bits with ranges from ``calibration``, except motion estimation.
        frames: length of a clip, for networks that carry a state along it: their graph has a fixed length.
        size: height and width for a graph of that size only; by default tried after a graph for any size, with the size
            of ``check`` (for networks that resize the image or depend on the number of its pixels).
        check: a real clip with its ground truth; by default :func:`check_pair`.
        calibration: clips, each uint8 ``(T, H, W, 3)``, low resolution; by default :func:`calibration_clips`. A
            graph of one size takes their upper left corners, and leaves out those of the default that are smaller.
        replace_file: overwrite an existing file.

    Raises:
        ConfigError: onnx or onnxruntime is not installed, the file exists, a clip is smaller than the graph's size, or
            the network cannot be exported, with the reason.
    """
    path = Path(path)
    for module in ("onnx", "onnxruntime"):
        import_optional(module)
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: want a name that ends in .onnx")
    if path.exists() and not replace_file:
        raise ConfigError(f"{path}: exists already; name another, or allow it to be replaced")
    if precision not in FORMATS:
        raise ConfigError(f"precision: want one of {', '.join(FORMATS)}, got {precision!r}")
    require_at_least(1, frames=frames)
    network.check_upscales()
    name = network.name
    if precision != "fp32" and any("conv_offset" in parameter for parameter, _ in network.named_parameters()):
        raise ConfigError(
            f"{name}: {precision} is for networks without deformable convolutions, whose offsets would be read from "
            "rounded features; export it as fp32"
        )
    frozen = copy.deepcopy(network).to("cpu", torch.float32).eval().requires_grad_(False)
    pair = check or check_pair(network.scale)
    with tempfile.TemporaryDirectory() as folder:
        exported = _export_most_general(frozen, Path(folder), frames, size, pair)
        metadata = replace(exported.metadata, precision=precision)
        content = exported.path
        if precision == "fp16":
            content = Path(folder) / "half.onnx"
            if reason := trace(frozen, metadata, content, half=True):
                raise ConfigError(f"{name} cannot be exported in fp16: {reason}")
        elif precision == "int8":
            content = Path(folder) / "eight.onnx"
            clips = calibration or calibration_clips(network.scale, exported.metadata.size)
            _quantize(exported, content, clips)
        _store_metadata(content, metadata)
        checked = _compare(frozen, content, pair)
        write_atomic(path, content.read_bytes())
    return replace(checked, path=path, refused=exported.refused)


# -- the graph --------------------------------------------------------------------------------------------------------


def _export_most_general(
    network: VideoSR, folder: Path, frames: int, size: tuple[int, int] | None, pair: Pair
) -> Export:
    """Export the most general graph whose frames are correct."""
    common = {"name": network.name, "scale": network.scale, "num_frames": network.num_frames, "precision": "fp32"}
    if isinstance(network, SlidingWindow):
        metadata = OnnxMetadata(
            graph="windows", frames=None, temporal_radius=network.temporal_radius, border=network.border, **common
        )
        tries = [metadata, replace(metadata, graph="window")]
    else:
        radius = network.temporal_radius
        fixed_frames = frames if radius is None else None  # a state along the clip is unrolled
        tries = [OnnxMetadata(graph="clip", frames=fixed_frames, temporal_radius=radius, border="replicate", **common)]
    only = (pair.low.shape[1], pair.low.shape[2]) if size is None else size
    fixed = [replace(metadata, size=only) for metadata in tries]
    tries = fixed if size is not None else [*tries, *fixed]
    refused: list[str] = []
    for number, metadata in enumerate(tries):
        path = folder / f"{number}.onnx"
        reason = trace(network, metadata, path)
        if reason is None:
            _store_metadata(path, metadata)
            try:
                checked = _compare(network, path, pair)
            except WeightsError as error:
                reason = str(error).partition(": ")[2]
            else:
                if checked.difference <= MAX_DIFFERENCE:
                    return replace(checked, refused=tuple(refused))
                reason = (
                    f"on clips of another size or length than the traced one its images are wrong by up to "
                    f"{checked.difference:.3g}: the network depends on values in a way that a graph cannot"
                )
        graph = f"{metadata.graph}, {'any size' if metadata.size is None else f'{metadata.size[1]}x{metadata.size[0]}'}"
        refused.append(f"{graph}: {reason}")
    raise ConfigError(
        f"{network.name} cannot be exported to ONNX. {'; '.join(refused)}. It runs under PyTorch as it is"
    )


def _store_metadata(path: Path, metadata: OnnxMetadata) -> None:
    """Store the metadata in a file."""
    onnx = import_optional("onnx")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    model.producer_name, model.doc_string = "workbench", ""
    onnx.save(model, str(path))


# -- the check --------------------------------------------------------------------------------------------------------


def _compare(network: VideoSR, path: Path, pair: Pair) -> Export:
    """Compare a file with PyTorch: on the whole clip, and on a shorter part of odd size."""
    exported = open_exported(path)
    fixed, size = exported.metadata.frames, exported.metadata.size
    low, high = pair.low, pair.high
    if size is not None:
        if size[0] > low.shape[1] or size[1] > low.shape[2]:
            raise ConfigError(
                f"size: want at most {low.shape[2]}x{low.shape[1]} (clip of the comparison), got {size[1]}x{size[0]}"
            )
        low, high = low[:, : size[0], : size[1]], high[:, : size[0] * network.scale, : size[1] * network.scale]
    if fixed is not None:  # a state: the clip is played back and forth until it is long enough
        indices = np.abs((np.arange(fixed) + len(low) - 1) % (2 * max(len(low) - 1, 1)) - (len(low) - 1))
        low, high = low[indices], high[indices]
    parts = [low, low[: fixed or 3, :-3, :-5]]
    if size is not None:
        parts = [low, low[::-1]]
    with torch.inference_mode():
        expected = [network(to_float(part)).frames for part in parts]
        results = [exported(to_float(part)).frames for part in parts]
    return Export(
        path=path,
        metadata=exported.metadata,
        free=axes_of(exported.metadata),
        bytes=path.stat().st_size,
        operators=operators(path),
        difference=max(float((a - b).abs().max()) for a, b in zip(results, expected, strict=True)),
        psnr_db=float(psnr_db(to_uint8(results[0]), high).mean()),
        torch_psnr_db=float(psnr_db(to_uint8(expected[0]), high).mean()),
        refused=(),
    )


# -- eight bits -------------------------------------------------------------------------------------------------------


def _quantize(exported: Export, target: Path, clips: Sequence[np.ndarray]) -> None:
    """Quantize convolutions to 8 bits: weights per channel, activations by their range on the calibration clips."""
    if exported.metadata.size is not None:
        height, width = exported.metadata.size
        wide, high = (min((low.shape[axis] for low in clips), default=0) for axis in (2, 1))
        if wide < width or high < height:
            raise ConfigError(
                f"calibration: want clips of at least {width}x{height} (low resolution), got {wide}x{high}"
            )
        clips = [low[:, :height, :width] for low in clips]
    import_optional("onnxruntime").set_default_logger_severity(4)  # sessions of the quantizer warn of its own changes
    quantization = import_optional("onnxruntime.quantization")
    model = import_optional("onnx").load(str(exported.path))
    excluded = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(word in name for name in (node.name, *node.input) for word in FLOAT_LAYERS)
    ]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = (feed for low in clips for feed in _feeds(exported.metadata, low))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    with _silence():
        quantization.quantize_static(
            str(exported.path),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=excluded,
        )


def _feeds(metadata: OnnxMetadata, low: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Yield the inputs of a graph for calibration."""
    clip = to_float(low).numpy()
    if metadata.graph == "clip":
        length = metadata.frames or 1
        for first in range(0, max(len(low) - length, 0) + 1, length):
            part = clip[:, first : first + length]
            yield {"clip": part if part.shape[1] == length else np.repeat(clip[:, :1], length, axis=1)}
        return
    for window in window_indices(len(low), metadata.num_frames, metadata.border).numpy():
        if metadata.graph == "window":
            yield {"clip": clip[:, window]}
        else:
            yield {"clip": clip, "windows": window[None]}


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the quantizer's advice in the root logger, within the context."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
