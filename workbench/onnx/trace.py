"""Conversion of networks to ONNX graphs, by PyTorch's tracing exporter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.models.windows import window_indices
from workbench.onnx.run import OnnxMetadata

OPSET = 18
TRACED = (37, 45)
"""Rows and columns of the traced clip: multiples of nothing, so that every padding is traced."""


class _Windows(nn.Module):
    """Sliding window as a graph for any clip and any windows of it; computes :meth:`SlidingWindow._upscale`."""

    def __init__(self, network: SlidingWindow) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: Tensor, windows: Tensor) -> Tensor:
        network, (batch, frames, _, height, width) = self.network, clip.shape
        outputs, middle = windows.shape[0], network.num_frames // 2
        start = torch.arange(batch)[:, None, None] * frames
        rows = (start + windows[None]).reshape(-1, network.num_frames)
        groups, chosen = network.frame_groups(network.pad_input(clip.flatten(0, 1)), rows)
        features = (each[chosen] for each in network.per_frame(groups))
        output = network.per_window(*features, return_features=None).residual
        output = output[..., : height * network.scale, : width * network.scale]
        residual = output.reshape(batch, outputs, 3, height * network.scale, width * network.scale)
        return network.add_skip(residual, clip[:, windows[:, middle]])


class _Window(nn.Module):
    """Sliding window as a graph for one window."""

    def __init__(self, network: SlidingWindow) -> None:
        super().__init__()
        self.network = _Windows(network)
        self.frames = network.num_frames

    def forward(self, clip: Tensor) -> Tensor:
        return self.network(clip, torch.arange(self.frames)[None])


class _Clip(nn.Module):
    """Any other network as a graph for a clip."""

    def __init__(self, network: VideoSR) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: Tensor) -> Tensor:
        return self.network(clip).frames


def axes_of(metadata: OnnxMetadata) -> tuple[str, ...]:
    """Return the axes of a graph with variable length; graphs for one window are run window by window for any time."""
    size = ("height", "width") if metadata.size is None else ()
    if metadata.graph == "window":
        return ("time", *size)
    return size if metadata.frames is not None else ("batch", "time", *size)


def trace(network: VideoSR, metadata: OnnxMetadata, path: Path, *, half: bool = False) -> str | None:
    """Write the graph; return the reason if an operator has no ONNX counterpart."""
    height, width = metadata.size or TRACED
    rng = torch.Generator().manual_seed(0)
    if metadata.graph == "windows":
        assert isinstance(network, SlidingWindow)
        module, count = _Windows(network), metadata.num_frames + 1
        inputs = (torch.rand(2, count, 3, height, width, generator=rng), window_indices(count, metadata.num_frames)[:2])
    elif metadata.graph == "window":
        assert isinstance(network, SlidingWindow)
        module, inputs = _Window(network), (torch.rand(1, metadata.num_frames, 3, height, width, generator=rng),)
    else:
        batch, frames = (2, 3) if metadata.frames is None else (1, metadata.frames)
        module, inputs = _Clip(network), (torch.rand(batch, frames, 3, height, width, generator=rng),)
    axis_of = {"batch": 0, "time": 1, "height": 3, "width": 4}
    dynamic = {axis_of[name]: name for name in axes_of(metadata)}
    out = {axis: f"{name}_out" if axis > 2 else name for axis, name in dynamic.items()}
    if metadata.graph == "windows":
        out[1] = "outputs"
    elif metadata.graph == "window":
        dynamic, out = ({axis: name for axis, name in each.items() if axis > 2} for each in (dynamic, out))
    names = ["clip", "windows"][: len(inputs)]
    axes = {"clip": dynamic, "windows": {0: "outputs"}, "frames": out}
    try:
        with (
            warnings.catch_warnings(), torch.no_grad(), _bicubic_symbolic(), _no_dump(),
            torch.autocast("cpu", torch.float16, enabled=half, cache_enabled=False),
        ):  # fmt: skip
            warnings.simplefilter("ignore")  # the comparison with PyTorch finds what they warn of
            torch.onnx.export(
                module.eval(), inputs, str(path), dynamo=False, opset_version=OPSET, input_names=names,
                output_names=["frames"], dynamic_axes={key: axes[key] for key in (*names, "frames")},
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, NotImplementedError) as error:
        return " ".join(str(error).split())[:300] or type(error).__name__
    return None


@contextmanager
def _bicubic_symbolic() -> Iterator[None]:
    """Register bicubic upsampling with Keys' a = -0.5 for PyTorch's exporter, within the context."""
    from torch.onnx import symbolic_helper, utils

    operator = "aten::_upsample_bicubic2d_aa"

    def resize(g: Any, images: Any, size: Any, align_corners: Any, *_scales: Any) -> Any:
        if symbolic_helper._is_packed_list(size):
            one = torch.tensor([1])
            sides = [
                g.op("Reshape", side, g.op("Constant", value_t=one)) for side in symbolic_helper._unpack_list(size)
            ]
            size = g.op("Concat", *sides, axis_i=0)
        size = g.op("Cast", size, to_i=7)  # int64
        channels = symbolic_helper._slice_helper(g, g.op("Shape", images), axes=[0], starts=[0], ends=[2])
        empty = symbolic_helper._optional_input_placeholder_tensor(g)
        return g.op(
            "Resize", images, empty, empty, g.op("Concat", channels, size, axis_i=0), mode_s="cubic",
            coordinate_transformation_mode_s="half_pixel", cubic_coeff_a_f=-0.5, antialias_i=1,
        )  # fmt: skip

    utils.register_custom_op_symbolic(operator, resize, OPSET)
    try:
        yield
    finally:
        utils.unregister_custom_op_symbolic(operator, OPSET)


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keep an exporter that fails from printing its graph to stdout, within the context."""
    before = torch._C._jit_onnx_log  # pyright: ignore[reportAttributeAccessIssue]
    torch._C._jit_onnx_log = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        torch._C._jit_onnx_log = before  # pyright: ignore[reportAttributeAccessIssue]
