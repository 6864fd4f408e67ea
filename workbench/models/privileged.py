"""PISR's privileged teacher (Lee et al., ECCV 2020): a student's network behind an encoder of the ground truth.

The encoder downsamples the *high*-resolution clip to one that resembles the low-resolution clip, but is optimized for
upscaling; the decoder, a student network, upscales it. So the teacher shows the limit of the student's layers with a
better input. Training has two stages: the teacher reconstructs the ground truth while the encoder's output is kept
close to the low resolution; then the student starts with the weights of the decoder and learns from the low resolution,
together with the teacher's features (:class:`workbench.distill.losses.VariationalInformation`).

``zoo.build("privileged:vespcn")`` is the teacher whose decoder is ``vespcn``. It cannot upscale: its input is the
ground truth.

Deviations: video, where the encoder works frame by frame, and the paper has images; RGB, and the paper works in Y; the
decoder is any student, and the paper's is FSRCNN; Charbonnier for its L1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from workbench.choices import FeatureLayer
from workbench.errors import ConfigError, ShapeError
from workbench.models.layers.blocks import conv3x3
from workbench.models.sliding_window import FRAMES_PER_PASS
from workbench.models.video_sr import NetworkInfo, Upscaled, VideoSR


class Encoder(nn.Module):
    """Four convolutions from the ground truth to a small image: ``(N, 3, s*H, s*W)`` -> ``(N, 3, H, W)``, not clamped.

    The layers and widths are those of the authors' code ("lcscc"), which works in Y; the second has the stride ``s``.
    89,102 parameters.

    Args:
        scale: s.

    Example:
        >>> Encoder(scale=4)(torch.zeros(2, 3, 32, 48)).shape
        torch.Size([2, 3, 8, 12])
    """

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 56, 5, 1, 2), nn.PReLU(), nn.Conv2d(56, 56, 5, scale, 2), nn.PReLU(),
            conv3x3(56, 12), nn.PReLU(), conv3x3(12, 3),
        )  # fmt: skip

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Encode frames; see the class."""
        return self.layers(frames_NCHW)


class Privileged(VideoSR):
    """Teacher whose input is the high-resolution clip: ``upscaled = network(high, return_features=None)``.

    ``H`` and ``W`` are those of the low resolution, as everywhere. The input is ``(B, T, 3, s*H, s*W)``; images and
    features of the output have that size, and ``Upscaled.encoded`` is ``(B, T, 3, H, W)``. The encoder works frame by
    frame; only the decoder combines frames.

    Args:
        decoder: a network with parameters that upscales, whose weights a student will start with.

    Raises:
        ConfigError: the decoder has no parameters, does not upscale, or is privileged itself.

    Example:
        >>> from workbench.models.zoo import build
        >>> teacher = build("privileged:vespcn_s", scale=2)
        >>> upscaled = teacher(torch.rand(1, 3, 3, 16, 24))
        >>> upscaled.frames.shape, upscaled.encoded.shape
        (torch.Size([1, 3, 3, 16, 24]), torch.Size([1, 3, 3, 8, 12]))
    """

    privileged = True
    temporal_radius = None  # a clip is encoded as a whole; the decoder divides it, see chunks

    def __init__(self, decoder: VideoSR) -> None:
        for fault, present in (
            ("is privileged itself", decoder.privileged),
            ("restores at the same size", decoder.scale == 1),
            ("has no parameters", not list(decoder.parameters())),
        ):
            if present:
                raise ConfigError(f"decoder: want the network of a student, but {decoder.name} {fault}; choose another")
        super().__init__(scale=decoder.scale)
        self.encoder, self.decoder = Encoder(scale=decoder.scale), decoder
        decoder.check_values = False  # the encoder's output is not an input of the user
        self.num_frames, self.period, self.low_lr_params = decoder.num_frames, decoder.period, decoder.low_lr_params
        self.feature_channels, self.aligned_channels = decoder.feature_channels, decoder.aligned_channels
        self.info = NetworkInfo(
            paper="Lee et al., Learning with Privileged Information for Efficient Image Super-Resolution (PISR), ECCV "
            f"2020; the decoder: {decoder.info.paper}",
            year=2020,
            role="teacher",
        )

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Reconstruct a batch of clips.

        Args:
            clip: the ground truth, ``(B, T, 3, s*H, s*W)``, float RGB in [0, 1].
            return_features: see :meth:`VideoSR.forward`.

        Raises:
            ShapeError: not a batch of clips, or sides that are not multiples of the scale.
            ConfigError: the decoder does not have the features that ``return_features`` names.
        """
        encoded = self.encode(clip, return_features)
        return replace(self.decoder(encoded, return_features=return_features), encoded=encoded)

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """Reconstruct in the chunks of the decoder; see :meth:`VideoSR.chunks`."""
        encoded = self.encode(clip, return_features)
        first = 0
        for part in self.decoder.chunks(encoded, frames=frames, return_features=return_features):
            last = first + part.frames.shape[1]
            yield replace(part, encoded=encoded[:, first:last])
            first = last

    def encode(self, high: Tensor, return_features: FeatureLayer | None = None) -> Tensor:
        """Encode the ground truth: ``(B, T, 3, s*H, s*W)`` -> ``(B, T, 3, H, W)``, in float32 or more."""
        *_, height, width = self.check_input(high, return_features)
        if height % self.scale or width % self.scale:
            raise ShapeError(
                f"clip: want the high resolution for a privileged network, with multiples of {self.scale} as sides, "
                f"got {width}x{height}"
            )
        frames = high.flatten(0, 1)
        at_once = len(frames) if torch.is_grad_enabled() else FRAMES_PER_PASS
        encoded = torch.cat([self.encoder(some) for some in frames.split(at_once)])
        return encoded.to(torch.promote_types(encoded.dtype, torch.float32)).unflatten(0, high.shape[:2])


def imitation(encoded: Tensor, low: Tensor) -> Tensor:
    r"""Return the distance of the encoder's output from the low resolution (PISR's second loss of stage 1).

    .. math:: L_{im} = \operatorname{mean} |LR - E(HR)|

    The teacher learns from it and the reconstruction. Without it the encoder may develop a code that resembles no
    low-resolution clip, and the decoder would not help a student.

    Args:
        encoded: ``(B, T, 3, H, W)``, of :class:`Upscaled`.
        low: the same shape, in [0, 1]; by the degradation of the run.

    Raises:
        ShapeError: they are of different sizes.

    Example:
        >>> imitation(torch.full((1, 1, 3, 2, 2), 0.75), torch.full((1, 1, 3, 2, 2), 0.5)).item()
        0.25
    """
    if encoded.shape != low.shape:
        raise ShapeError(f"imitation: want the encoded clip as {tuple(low.shape)}, got {tuple(encoded.shape)}")
    return (encoded.float() - low.float()).abs().mean()
