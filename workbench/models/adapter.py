"""Adapter: any module as a teacher or a student, with a named layer as the source of its features.

    teacher = adapt(TheirNetwork(), takes="window", num_frames=5, scale=4, features="conv_last")

Networks of this package return their features. Other modules do not, so the adapter captures the *inputs* of named
layers while the module runs, and only then:

- The input of a layer is copied before the layer runs, so that no activation in place, that of the layer included,
  changes the captured features. (The output of a layer, which is usually hooked, is changed by the next activation in
  place.) The copy costs one F^SR.
- No hook stays on the module: it can be copied, saved, trained elsewhere, and wrapped for several devices.
- Captured features are part of the output: gradients flow through them, and DistributedDataParallel around the adapted
  network includes them.

Compile the adapted network, not the module inside: a compiled module ignores hooks. The module inside runs uncompiled
while features are captured.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from workbench.choices import Border, FeatureLayer
from workbench.errors import ConfigError, ShapeError, check_choice
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, Upscaled, VideoSR, WindowOutput

Takes = Literal["window", "clip", "image"]


def adapt(
    module: nn.Module,
    *,
    takes: Takes,
    scale: int,
    num_frames: int = 1,
    features: str | None = None,
    aligned: str | None = None,
    border: Border = "replicate",
    value_range: tuple[float, float] = (0.0, 1.0),
    size_multiple: int = 1,
    minimum_size: int = 1,
) -> VideoSR:
    """Make a :class:`VideoSR` from a module: a teacher, a student, or a method for comparison.

    The module is run once on a tiny clip, in evaluation mode and without gradient, to check these arguments.

    Args:
        module: not changed; its parameters are those of the network.
        takes: input and output of the module:

            ``window``
                ``(N, num_frames, 3, H, W)`` -> ``(N, 3, s*H, s*W)``, the middle frame.
            ``clip``
                ``(B, T, 3, H, W)`` -> ``(B, T, 3, s*H, s*W)``, any ``T``. Every frame may depend on all others, so
                clips are processed as a whole: long ones need memory.
            ``image``
                ``(N, 3, H, W)`` -> ``(N, 3, s*H, s*W)``, applied frame by frame.
        scale: s; 2, 3 or 4.
        num_frames: of a window, odd.
        features: layer whose input is F^SR, by its path in the module (``"tail.conv_last"``), returned for
            ``return_features="hr"``; None: no F^SR, so that only the output can be distilled.
        aligned: layer whose input is F^LR, by its path; None: no F^LR.
        border: see :class:`SlidingWindow`; for windows.
        value_range: of the module, for example ``(0, 255)`` or ``(-0.5, 0.5)``; converted at input and output.
        size_multiple: ``H`` and ``W`` of the module are multiples of this; other sizes are padded and cropped.
        minimum_size: smallest ``H`` and ``W`` of the module; smaller sizes are padded and cropped.

    In a module for clips, the layer may run once (input ``(B, T, C, ...)`` or ``(B*T, C, ...)``) or once per frame
    (input ``(B, C, ...)``), then in the order of the frames.

    Raises:
        ConfigError: the module does not have this input or output, or no such layer.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(8, 3, 3, padding=1))
        >>> student = adapt(layers, takes="image", scale=2, features="2")
        >>> student(torch.rand(1, 5, 3, 9, 14), return_features="hr").features.shape
        torch.Size([1, 5, 8, 18, 28])
    """
    check_choice("takes", takes, Takes)
    if num_frames != 1 and takes != "window":
        raise ConfigError(f"num_frames: want 1 for {takes}s, got {num_frames}; only windows have more")
    if hasattr(module, "_orig_mod"):
        raise ConfigError(
            "module: want one that is not compiled, whose features can be captured; adapt it first, then compile"
        )
    low, high = value_range
    if not low < high:
        raise ConfigError(f"value_range: want (low, high) with low < high, got {value_range}")
    network: _Windows | _Clips
    if takes == "clip":
        network = _Clips(scale=scale)
    else:
        network = _Windows(scale=scale, num_frames=num_frames, border=border, skip="none")
    network.attach(module, takes, (low, high), {"features": features, "aligned": aligned})
    network.size_multiple, network.minimum_size = size_multiple, minimum_size
    network.info = NetworkInfo(paper=f"{type(module).__name__}, adapted", year=0, role="both")
    _probe(network)
    return network


class _Adapted(VideoSR):
    """Adapted module, with captured inputs of its named layers."""

    def attach(
        self, module: nn.Module, takes: Takes, value_range: tuple[float, float], layers: Mapping[str, str | None]
    ) -> None:
        """Store the module after a check that it has those layers."""
        self.module, self.takes, self.value_range = module, takes, value_range
        self.layers = {label: path for label, path in layers.items() if path is not None}
        paths = [path for path, _ in module.named_modules() if path]
        for label, path in self.layers.items():
            if path not in paths:
                near = difflib.get_close_matches(path, paths, n=1)
                raise ConfigError(
                    f"{label}: the module has no layer {path!r}{f', did you mean {near[0]!r}?' if near else ';'} "
                    f"There are: {', '.join(paths[:30])}{' ...' if len(paths) > 30 else ''}"
                )

    def check_features(self, return_features: FeatureLayer | None) -> None:
        """Check that ``return_features`` is ``hr``, the only feature layer."""
        super().check_features(return_features)
        if return_features not in (None, "hr"):
            raise ConfigError(
                f"return_features: want 'hr', the input of the layer named as features, got {return_features!r}"
            )

    def run(self, images: Tensor, *, capture_features: bool) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Run the module on images in [0, 1]; return its output in [0, 1], and all inputs of the named layers."""
        low, high = self.value_range
        scaled = images * (high - low) + low
        capture: Callable[[Tensor], tuple[Any, dict[str, list[Tensor]]]] = self._capture
        if (
            capture_features and "torch._dynamo" in sys.modules
        ):  # a compiled module would keep writing into its first lists
            capture = cast("Any", torch.compiler.disable)(capture)
        output, captured = capture(scaled) if capture_features else (self.module(scaled), {})
        if not isinstance(output, Tensor):
            raise ConfigError(f"module: want one tensor as output, got {type(output).__name__}; wrap it")
        return (output.to(torch.promote_types(output.dtype, torch.float32)) - low) / (high - low), captured

    def _capture(self, images: Tensor) -> tuple[Any, dict[str, list[Tensor]]]:
        captured: dict[str, list[Tensor]] = {label: [] for label in self.layers}

        def hook(label: str) -> Any:
            def capture_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
                captured[label].extend(tensor.clone() for tensor in tensors[:1])

            return capture_input

        handles = [
            self.module.get_submodule(path).register_forward_pre_hook(hook(label), with_kwargs=True)
            for label, path in self.layers.items()
        ]
        try:
            return self.module(images), captured
        finally:
            for handle in handles:
                handle.remove()

    def join_features(self, label: str, captured: Mapping[str, list[Tensor]], lead: tuple[int, ...]) -> Tensor | None:
        """Join the captured inputs of a layer, with the first axes ``lead``: ``(N,)`` or, of clips, ``(B, T)``."""
        if label not in captured:
            return None
        path, inputs = self.layers[label], captured[label]
        if not inputs:
            raise ConfigError(f"{label}: the layer {path} did not run, or read no tensor; name one that does")
        if len(inputs) == 1 and inputs[0].ndim == len(lead) + 3 and inputs[0].shape[: len(lead)] == lead:
            return inputs[0]
        if len(lead) == 2:
            batch, frames = lead
            if len(inputs) == 1 and inputs[0].ndim == 4 and len(inputs[0]) == batch * frames:
                return inputs[0].unflatten(0, lead)
            if len(inputs) == frames and all(each.ndim == 4 and len(each) == batch for each in inputs):
                return torch.stack(inputs, dim=1)
        raise ConfigError(
            f"{label}: want the layer {path} to read {' x '.join(map(str, lead))} frames at once, or those of a clip "
            f"one by one; it ran {len(inputs)} times, first on {tuple(inputs[0].shape)}"
        )


class _Windows(_Adapted, SlidingWindow):
    """Adapted module for windows, or for single images: windows of one frame."""

    def per_window(self, *inputs: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Run the module."""
        (frames_NTCHW,) = inputs
        output, captured = self.run(
            frames_NTCHW[:, 0] if self.takes == "image" else frames_NTCHW, capture_features=return_features is not None
        )
        n, _, _, height, width = frames_NTCHW.shape
        _require(output, (n, 3, height * self.scale, width * self.scale))
        return WindowOutput(
            output, self.join_features("features", captured, (n,)), self.join_features("aligned", captured, (n,))
        )


class _Clips(_Adapted):
    """Adapted module for clips."""

    temporal_radius = None

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; see :meth:`VideoSR.forward`."""
        batch, frames, _, height, width = self.check_input(clip, return_features)
        padded = self.pad_input(clip)
        output, captured = self.run(padded, capture_features=return_features is not None)
        _require(output, (batch, frames, 3, *(side * self.scale for side in padded.shape[3:])))

        def cropped(tensor: Tensor, factor: int) -> Tensor:
            return tensor[..., : height * factor, : width * factor]

        features, aligned = (self.join_features(label, captured, (batch, frames)) for label in ("features", "aligned"))
        return Upscaled(
            frames=cropped(output, self.scale),
            features=None if features is None else cropped(features, self.scale),
            aligned=None if aligned is None else cropped(aligned, 1),
        )


def _require(output: Tensor, shape: Sequence[int]) -> None:
    if tuple(output.shape) != tuple(shape):
        raise ShapeError(f"the module's output: want {tuple(shape)}, got {tuple(output.shape)}")


def _probe(network: _Windows | _Clips) -> None:
    """Run the network once on a tiny clip: set the number of its channels, or raise an error."""
    takes, multiple = network.takes, network.size_multiple
    side = -(-max(16, network.minimum_size) // multiple) * multiple
    lead = {"window": (2, network.num_frames), "clip": (2, 3), "image": (2,)}[takes]
    example = next(network.parameters(), torch.empty(0)).new_full((*lead, 3, side, side), 0.5)
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            output, captured = network.run(example, capture_features=True)
    except ConfigError:
        raise
    except Exception as error:  # a module may raise any type
        raise ConfigError(
            f"module: fails for {takes}s of shape {tuple(example.shape)}: {type(error).__name__}: {error}; see "
            "num_frames, size_multiple and minimum_size"
        ) from error
    finally:
        for part, training in modes.items():
            part.training = training
    large = side * network.scale
    axes = lead if takes == "clip" else (2,)
    if tuple(output.shape) != (*axes, 3, large, large):
        raise ConfigError(
            f"module: want output {(*axes, 3, large, large)} for {takes}s {tuple(example.shape)} at scale "
            f"{network.scale}, got {tuple(output.shape)}"
        )
    for label, size in (("features", large), ("aligned", side)):
        tensor = network.join_features(label, captured, axes)
        if tensor is None:
            continue
        if tuple(tensor.shape[-2:]) != (size, size):
            raise ConfigError(
                f"{label}: the input of layer {network.layers[label]} is {tuple(tensor.shape)}; name one with "
                f"(..., C, {size}, {size})"
            )
        if label == "features":
            network.feature_channels = tensor.shape[-3]
        else:
            network.aligned_channels = tensor.shape[-3]
