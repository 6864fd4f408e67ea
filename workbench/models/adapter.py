"""Any module as a teacher or a student: what it takes, and which of its layers reads F^SR.

    teacher = adapt(TheirNetwork(), takes="window", num_frames=5, scale=4, features="conv_last")

Networks of this package return their features. A module that somebody else wrote does not, so here they are caught, at
the door of the layer that *reads* them, while the module runs and only then:

- What a layer reads cannot have been changed yet by an activation behind it, and it is copied before the layer runs:
  an activation in place, that layer's own included, changes the original and not what was caught. (What a layer
  *returns*, which is what is usually hooked, is changed by the next activation in place.) The copy costs one F^SR.
- Nothing stays on the module: it can be copied, saved, trained elsewhere, wrapped for several devices.
- What was caught leaves as part of the output: gradients flow through it, and DistributedDataParallel around the
  adapted network sees all of it.

Compile the adapted network, not the module inside: a compiled module no longer asks who is listening. Where features
are kept, the module inside then runs as it is.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from workbench.errors import ConfigError, ShapeError
from workbench.models.video_sr import Border, FeatureLayer, NetworkInfo, SlidingWindow, Upscaled, VideoSR, WindowOutput

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
    """Make a :class:`VideoSR` of a module: a teacher, a student, or a method to compare with.

    The module is run once on a tiny clip, in evaluation mode and without gradient; what does not fit is said then.

    Args:
        module: it stays what it is, and its parameters are those of the network.
        takes: what goes in, and what comes out of it:

            ``window``
                ``(N, num_frames, 3, H, W)`` -> ``(N, 3, s*H, s*W)``, the middle frame.
            ``clip``
                ``(B, T, 3, H, W)`` -> ``(B, T, 3, s*H, s*W)``, any ``T``. Every frame may depend on all, so such a
                network gets its clips at once: long ones cost memory.
            ``image``
                ``(N, 3, H, W)`` -> ``(N, 3, s*H, s*W)``, applied frame by frame.
        scale: s; 2, 3 or 4.
        num_frames: of a window, odd.
        features: the layer that reads F^SR, by its path in the module (``"tail.conv_last"``), and with it what
            ``return_features="hr"`` gives; None: there is none, and no distillation but that of the output.
        aligned: the layer that reads F^LR, likewise.
        border: see :class:`SlidingWindow`; of windows.
        value_range: what the module works in, for example ``(0, 255)`` or ``(-0.5, 0.5)``; converted on both sides.
        size_multiple: ``H`` and ``W`` that the module needs; other sizes are padded and cropped.
        minimum_size: the smallest ``H`` and ``W`` that it takes; likewise.

    In a module that takes clips, the layer may run once (reading ``(B, T, C, ...)`` or ``(B*T, C, ...)``) or once per
    frame (reading ``(B, C, ...)``), then in the order of the frames.

    Raises:
        ConfigError: the module does not take or return what was said, or has no such layer.

    Example:
        >>> enlarge = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(8, 3, 3, padding=1))
        >>> student = adapt(enlarge, takes="image", scale=2, features="2")
        >>> student(torch.rand(1, 5, 3, 9, 14), return_features="hr").features.shape
        torch.Size([1, 5, 8, 18, 28])
    """
    if takes not in ("window", "clip", "image"):
        raise ConfigError(f"takes: want 'window', 'clip' or 'image', got {takes!r}")
    if num_frames != 1 and takes != "window":
        raise ConfigError(f"num_frames: only windows have so many, {takes}s do not; got {num_frames}")
    if hasattr(module, "_orig_mod"):
        raise ConfigError("module: it is compiled, and features cannot be caught there; adapt it first, compile then")
    low, high = value_range
    if not low < high:
        raise ConfigError(f"value_range: want (low, high) with low < high, got {value_range}")
    network: _Windows | _Clips
    if takes == "clip":
        network = _Clips(scale=scale)
    else:
        network = _Windows(scale=scale, num_frames=num_frames, border=border, skip="none")
    network.hold(module, takes, (low, high), {"features": features, "aligned": aligned})
    network.size_multiple, network.minimum_size = size_multiple, minimum_size
    network.info = NetworkInfo(
        paper=f"{type(module).__name__}, adapted",
        year=0,
        role="both",
        value_range=(low, high),
        features=f"what the layer {features} reads" if features else "",
        aligned=f"what the layer {aligned} reads" if aligned else "",
    )
    _probe(network)
    return network


class _Adapted(VideoSR):
    """A module, and what its named layers read while it ran."""

    def hold(
        self, module: nn.Module, takes: Takes, value_range: tuple[float, float], layers: Mapping[str, str | None]
    ) -> None:
        """Keep the module, once it is clear that it has those layers."""
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
        """There is one tap."""
        super().check_features(return_features)
        if return_features not in (None, "hr"):
            raise ConfigError(
                f"return_features: want 'hr', the input of the layer named as features, got {return_features!r}"
            )

    def run(self, pictures: Tensor, *, catch: bool) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Run the module on pictures in [0, 1]; its output in [0, 1], and every input of the named layers."""
        low, high = self.value_range
        given = pictures * (high - low) + low
        listen: Callable[[Tensor], tuple[Any, dict[str, list[Tensor]]]] = self._listen
        if catch and "torch._dynamo" in sys.modules:  # a compiled module would go on writing into its first lists
            listen = cast("Any", torch.compiler.disable)(listen)
        made, seen = listen(given) if catch else (self.module(given), {})
        if not isinstance(made, Tensor):
            raise ConfigError(f"module: want one tensor out of it, got {type(made).__name__}; wrap it")
        return (made.to(torch.promote_types(made.dtype, torch.float32)) - low) / (high - low), seen

    def _listen(self, given: Tensor) -> tuple[Any, dict[str, list[Tensor]]]:
        seen: dict[str, list[Tensor]] = {label: [] for label in self.layers}

        def catch(label: str) -> Any:
            def catch_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
                seen[label].extend(tensor.clone() for tensor in tensors[:1])

            return catch_input

        handles = [
            self.module.get_submodule(path).register_forward_pre_hook(catch(label), with_kwargs=True)
            for label, path in self.layers.items()
        ]
        try:
            return self.module(given), seen
        finally:
            for handle in handles:
                handle.remove()

    def joined(self, label: str, seen: Mapping[str, list[Tensor]], lead: tuple[int, ...]) -> Tensor | None:
        """What a layer read, with ``lead`` as its first axes: ``(N,)`` of windows and images, ``(B, T)`` of clips."""
        if label not in seen:
            return None
        path, pieces = self.layers[label], seen[label]
        if not pieces:
            raise ConfigError(f"{label}: the layer {path} did not run, or read no tensor; name one that does")
        if len(pieces) == 1 and pieces[0].ndim == len(lead) + 3 and pieces[0].shape[: len(lead)] == lead:
            return pieces[0]
        if len(lead) == 2:
            batch, frames = lead
            if len(pieces) == 1 and pieces[0].ndim == 4 and len(pieces[0]) == batch * frames:
                return pieces[0].unflatten(0, lead)
            if len(pieces) == frames and all(piece.ndim == 4 and len(piece) == batch for piece in pieces):
                return torch.stack(pieces, dim=1)
        raise ConfigError(
            f"{label}: want the layer {path} to read {' x '.join(map(str, lead))} frames at once, or those of a clip "
            f"one by one; it ran {len(pieces)} times, first on {tuple(pieces[0].shape)}"
        )


class _Windows(_Adapted, SlidingWindow):
    """A module that takes windows, or single images: windows of one frame."""

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Run the module."""
        (frames_NTCHW,) = pieces
        made, seen = self.run(
            frames_NTCHW[:, 0] if self.takes == "image" else frames_NTCHW, catch=return_features is not None
        )
        n, _, _, height, width = frames_NTCHW.shape
        _require(made, (n, 3, height * self.scale, width * self.scale))
        return WindowOutput(made, self.joined("features", seen, (n,)), self.joined("aligned", seen, (n,)))


class _Clips(_Adapted):
    """A module that takes clips."""

    temporal_radius = None

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; see :meth:`VideoSR.forward`."""
        batch, frames, _, height, width = self.check_input(clip, return_features)
        fitting = self.pad_input(clip)
        made, seen = self.run(fitting, catch=return_features is not None)
        _require(made, (batch, frames, 3, *(side * self.scale for side in fitting.shape[3:])))

        def cropped(tensor: Tensor, factor: int) -> Tensor:
            return tensor[..., : height * factor, : width * factor]

        features, aligned = (self.joined(label, seen, (batch, frames)) for label in ("features", "aligned"))
        return Upscaled(
            frames=cropped(made, self.scale),
            features=None if features is None else cropped(features, self.scale),
            aligned=None if aligned is None else cropped(aligned, 1),
        )


def _require(made: Tensor, shape: Sequence[int]) -> None:
    if tuple(made.shape) != tuple(shape):
        raise ShapeError(f"the module's output: want {tuple(shape)}, got {tuple(made.shape)}")


def _probe(network: _Windows | _Clips) -> None:
    """Run the network once on a tiny clip: learn how many channels it has, or say what does not fit."""
    takes, multiple = network.takes, network.size_multiple
    side = -(-max(16, network.minimum_size) // multiple) * multiple
    lead = {"window": (2, network.num_frames), "clip": (2, 3), "image": (2,)}[takes]
    grey = next(network.parameters(), torch.empty(0)).new_full((*lead, 3, side, side), 0.5)
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            made, seen = network.run(grey, catch=True)
    except ConfigError:
        raise
    except Exception as error:  # whatever somebody else's module raises
        raise ConfigError(
            f"module: it does not take {takes}s of shape {tuple(grey.shape)}: {type(error).__name__}: {error}; see "
            "num_frames, size_multiple and minimum_size"
        ) from error
    finally:
        for part, training in modes.items():
            part.training = training
    large = side * network.scale
    axes = lead if takes == "clip" else (2,)
    if tuple(made.shape) != (*axes, 3, large, large):
        raise ConfigError(
            f"module: of {takes}s {tuple(grey.shape)} it makes {tuple(made.shape)}; want {(*axes, 3, large, large)} at "
            f"scale {network.scale}"
        )
    for label, size in (("features", large), ("aligned", side)):
        tensor = network.joined(label, seen, axes)
        if tensor is None:
            continue
        if tuple(tensor.shape[-2:]) != (size, size):
            raise ConfigError(
                f"{label}: the layer {network.layers[label]} reads {tuple(tensor.shape)}; name one that reads "
                f"(..., C, {size}, {size})"
            )
        if label == "features":
            network.feature_channels = tensor.shape[-3]
        else:
            network.aligned_channels = tensor.shape[-3]
