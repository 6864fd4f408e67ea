"""Networks for other runtimes: ONNX, checked against PyTorch, and in half or eight bits where they bear it.

What is written is the network and nothing of its training: teacher, adapters and memory are not in it. That a distilled
student costs what the plain one costs is to be seen in the files themselves (:mod:`workbench.onnx.compare`).

PyTorch's tracing exporter is used. A network that decides something by the numbers it sees would be frozen at what it
decided once; so whatever is written is run on clips of other lengths and sizes than the traced one and must give the
pictures that PyTorch gives. Where a graph for any length and size does not, one that is less free is tried.
"""

from __future__ import annotations

import copy
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from workbench.data.datasets.samples import sample
from workbench.data.sampling.crops import Pair, make_pair
from workbench.errors import ConfigError, WeightsError
from workbench.metrics.fidelity import psnr_db
from workbench.models.video_sr import SlidingWindow, VideoSR
from workbench.models.windows import window_indices
from workbench.onnx.compare import operators
from workbench.onnx.run import KEY, OnnxMetadata, need, open_exported
from workbench.onnx.trace import axes_of, trace
from workbench.scenes import write_atomic
from workbench.tensors import to_float, to_uint8

Format = Literal["fp32", "fp16", "int8"]
FORMATS: tuple[Format, ...] = ("fp32", "fp16", "int8")

FAITHFUL = 1 / 510
"""Half a step of 8 bits: what a float32 graph may differ from PyTorch at any pixel."""

CLIP_FRAMES = 8
"""Of the graph of a network that carries a state along the clip, where nobody says."""

WHERE = ("motion", "flow", "offset")
"""Parts of the names of layers that say where to look. They stay in float: half a pixel is a blurred picture."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written, and how it compares with PyTorch on a real clip.

    Attributes:
        path: the file.
        facts: what it says of itself.
        free: which axes may have any length: of ``batch``, ``time``, ``height``, ``width``.
        bytes: of the file.
        operators: how often each occurs.
        difference: largest of any pixel from PyTorch in float32, of a range of 1.
        psnr_db: of its pictures against the truth, on luma, mean over the frames.
        torch_psnr_db: likewise of PyTorch's in float32.
        refused: graphs that are more free, and why they were not to be had.
    """

    path: Path
    facts: OnnxMetadata
    free: tuple[str, ...]
    bytes: int
    operators: dict[str, int]
    difference: float
    psnr_db: float
    torch_psnr_db: float
    refused: tuple[str, ...]

    @property
    def loss_db(self) -> float:
        """What is lost against PyTorch in float32."""
        return self.torch_psnr_db - self.psnr_db


def real_clip(scale: int) -> Pair:
    """What is exported is checked on this: five frames of the sample clip that the shipped students have not seen."""
    return make_pair(sample("bigbuckbunny", frames=(110, 115)).frames, scale=scale)


def calibration_clip(scale: int) -> np.ndarray:
    """Ranges of 8-bit layers are taken from this: other frames of the sample clip, uint8 ``(T, H, W, 3)``."""
    frames = sample("bigbuckbunny", frames=96).frames[::24]
    return make_pair(frames, scale=scale).low


def export(
    network: VideoSR,
    path: str | os.PathLike[str],
    *,
    precision: Format = "fp32",
    frames: int = CLIP_FRAMES,
    size: tuple[int, int] | None = None,
    check: Pair | None = None,
    calibration: np.ndarray | None = None,
    replace_file: bool = False,
) -> Export:
    """Write a network as ONNX and see that it makes the same pictures.

    Args:
        network: any upscaler; it is left as it is.
        path: the ``.onnx`` file.
        precision: ``fp32``; ``fp16``: convolutions in half precision, what says where to look, enlarging and sums in
            float32; ``int8``: convolutions in 8 bits with ranges from ``calibration``, except those that say where to
            look.
        frames: of a clip, for networks that carry a state along it: their graph has that many and no other.
        size: height and width for a graph of that size only, where one for any size is not to be had (or at once, where
            it is given): networks that resize the picture or count its pixels. That of ``check`` where left out.
        check: a real clip with its truth; :func:`real_clip` where left out.
        calibration: uint8 ``(T, H, W, 3)``, low resolution; :func:`calibration_clip` where left out.
        replace_file: overwrite a file that is there.

    Raises:
        ConfigError: onnx or onnxruntime is not installed, the file is there, or the network cannot go: says why.
    """
    path = Path(path)
    for module in ("onnx", "onnxruntime"):
        need(module)
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: want a name that ends in .onnx")
    if path.exists() and not replace_file:
        raise ConfigError(f"{path}: there is something already; name another, or say that it may be replaced")
    if precision not in FORMATS:
        raise ConfigError(f"precision: want one of {', '.join(FORMATS)}, got {precision!r}")
    if frames < 1:
        raise ConfigError(f"frames: want 1 or more, got {frames}")
    network.check_upscales()
    name = network.recipe.get("name", type(network).__name__)
    if precision != "fp32" and any("conv_offset" in parameter for parameter, _ in network.named_parameters()):
        raise ConfigError(
            f"{name}: {precision} is for networks without deformable convolutions, whose offsets would be read from "
            "rounded features; export it as fp32"
        )
    still = copy.deepcopy(network).to("cpu", torch.float32).eval().requires_grad_(False)
    pair = check or real_clip(network.scale)
    with tempfile.TemporaryDirectory() as home:
        made = _freest(still, name, Path(home), frames, size, pair)
        facts = replace(made.facts, precision=precision)
        content = made.path
        if precision == "fp16":
            content = Path(home) / "half.onnx"
            if reason := trace(still, facts, content, half=True):
                raise ConfigError(f"{name} cannot be exported in fp16: {reason}")
        elif precision == "int8":
            content = Path(home) / "eight.onnx"
            low = calibration_clip(network.scale) if calibration is None else calibration
            _quantise(made, content, low)
        _sign(content, facts)
        checked = _checked(still, content, pair)
        write_atomic(path, content.read_bytes())
    return replace(
        made, path=path, facts=facts, bytes=path.stat().st_size, difference=checked.difference,
        psnr_db=checked.psnr_db, torch_psnr_db=checked.torch_psnr_db, operators=checked.operators,
    )  # fmt: skip


# -- the graph --------------------------------------------------------------------------------------------------------


def _freest(network: VideoSR, name: str, home: Path, frames: int, size: tuple[int, int] | None, pair: Pair) -> Export:
    """The most general graph that makes the right pictures."""
    common = {"name": name, "scale": network.scale, "num_frames": network.num_frames, "precision": "fp32"}
    if isinstance(network, SlidingWindow):
        known = OnnxMetadata(
            graph="windows", frames=None, reach=network.temporal_radius, border=network.border, **common
        )
        tries = [known, replace(known, graph="window")]
    elif network.temporal_radius is None:
        tries = [OnnxMetadata(graph="clip", frames=frames, reach=None, border="replicate", **common)]
    else:
        tries = [OnnxMetadata(graph="clip", frames=None, reach=network.temporal_radius, border="replicate", **common)]
    only = (pair.low.shape[1], pair.low.shape[2]) if size is None else size
    fixed = [replace(facts, size=only) for facts in tries]
    tries = fixed if size is not None else [*tries, *fixed]
    refused: list[str] = []
    for number, facts in enumerate(tries):
        path = home / f"{number}.onnx"
        reason = trace(network, facts, path)
        if reason is None:
            _sign(path, facts)
            try:
                checked = _checked(network, path, pair)
            except WeightsError as error:
                reason = str(error).partition(": ")[2]
            else:
                if checked.difference <= FAITHFUL:
                    return replace(checked, facts=facts, free=axes_of(facts), refused=tuple(refused))
                reason = (
                    f"on clips of another size or length than the traced one its pictures are wrong by up to "
                    f"{checked.difference:.3g}: the network decides by what it sees, and the graph cannot"
                )
        where = f"{facts.graph}, {'any size' if facts.size is None else f'{facts.size[1]}x{facts.size[0]}'}"
        refused.append(f"{where}: {reason}")
    raise ConfigError(f"{name} cannot be exported to ONNX. {'; '.join(refused)}. It runs under PyTorch as it is")


def _sign(path: Path, facts: OnnxMetadata) -> None:
    """Let a file say what it is."""
    onnx = need("onnx")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: facts.to_json()})
    model.producer_name, model.doc_string = "workbench", ""
    onnx.save(model, str(path))


# -- the check --------------------------------------------------------------------------------------------------------


def _checked(network: VideoSR, path: Path, pair: Pair) -> Export:
    """Run a file beside PyTorch: on the whole clip, and on an odd part of it that is shorter."""
    exported = open_exported(path)
    fixed, size = exported.facts.frames, exported.facts.size
    low, high = pair.low, pair.high
    if size is not None:
        if size[0] > low.shape[1] or size[1] > low.shape[2]:
            raise ConfigError(f"size: the clip of the check is {low.shape[2]}x{low.shape[1]}; want that or less")
        low, high = low[:, : size[0], : size[1]], high[:, : size[0] * network.scale, : size[1] * network.scale]
    if fixed is not None:  # a state: the clip is played back and forth until it is long enough
        turns = np.abs((np.arange(fixed) + len(low) - 1) % (2 * max(len(low) - 1, 1)) - (len(low) - 1))
        low, high = low[turns], high[turns]
    parts = [low, low[: fixed or 3, :-3, :-5]]
    if size is not None:
        parts = [low, low[::-1]]
    with torch.inference_mode():
        theirs = [network(to_float(part)).frames for part in parts]
        ours = [exported(to_float(part)).frames for part in parts]
    return Export(
        path=path,
        facts=exported.facts,
        free=(),
        bytes=path.stat().st_size,
        operators=operators(path),
        difference=max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)),
        psnr_db=float(psnr_db(to_uint8(ours[0]), high).mean()),
        torch_psnr_db=float(psnr_db(to_uint8(theirs[0]), high).mean()),
        refused=(),
    )


# -- eight bits -------------------------------------------------------------------------------------------------------


def _quantise(made: Export, target: Path, low: np.ndarray) -> None:
    """Convolutions in 8 bits: weights channel by channel, activations by the range that the calibration clip shows."""
    need("onnxruntime").set_default_logger_severity(4)  # the sessions of the quantiser warn of what it does itself
    quantization = need("onnxruntime.quantization")
    model = need("onnx").load(str(made.path))
    stays = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(word in name for name in (node.name, *node.input) for word in WHERE)
    ]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = iter(list(_feeds(made.facts, low)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    with _silence():
        quantization.quantize_static(
            str(made.path),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=stays,
        )


def _feeds(facts: OnnxMetadata, low: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """What a graph is given, window after window."""
    clip = to_float(low).numpy()
    if facts.graph == "clip":
        wanted = facts.frames or 1
        for first in range(0, max(len(low) - wanted, 0) + 1, wanted):
            part = clip[:, first : first + wanted]
            yield {"clip": part if part.shape[1] == wanted else np.repeat(clip[:, :1], wanted, axis=1)}
        return
    for window in window_indices(len(low), facts.num_frames, facts.border).numpy():
        if facts.graph == "window":
            yield {"clip": clip[:, window]}
        else:
            yield {"clip": clip, "windows": window[None]}


@contextmanager
def _silence() -> Iterator[None]:
    """The quantiser recommends its own preprocessing through the root logger, every time."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
