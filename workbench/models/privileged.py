"""PISR's privileged teacher (Lee et al., ECCV 2020): a student's own network behind an encoder that sees the truth.

The encoder shrinks the *high*-resolution clip to one that looks like the low-resolution clip, but was made to be
enlarged; the decoder, which is a student network, enlarges that. So the teacher shows what the student's layers could
do with a better input. Training has two stages: the teacher reconstructs the truth while what its encoder makes is
held near the low resolution; then the student begins with the weights of the decoder and learns from the low
resolution, with the teacher's features beside it (``distill.baselines.VariationalInformation``).

``zoo.build("privileged:vespcn")`` is the teacher whose decoder is ``vespcn``. It is no upscaler: it must be given what
it is to make.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from workbench.errors import ConfigError, ShapeError
from workbench.models.layers.blocks import conv3x3
from workbench.models.video_sr import FRAMES_PER_PASS, FeatureLayer, Upscaled, VideoSR


class Encoder(nn.Module):
    """Four convolutions from the truth to a small picture: ``(N, 3, s*H, s*W)`` -> ``(N, 3, H, W)``, not clamped.

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
        """See the class."""
        return self.layers(frames_NCHW)


class Privileged(VideoSR):
    """A teacher that is called with the high-resolution clip: ``upscaled = network(high, return_features=None)``.

    Here ``H`` and ``W`` are those of the low resolution, as everywhere: in comes ``(B, T, 3, s*H, s*W)``, out come
    pictures and features of that size, and ``Upscaled.encoded``, ``(B, T, 3, H, W)``. The encoder works frame by
    frame; what is exchanged between frames is up to the decoder.

    Args:
        decoder: a network that learns and enlarges; a student is to begin with its weights.

    Raises:
        ConfigError: a decoder that has nothing to learn, does not enlarge, or is itself privileged.

    Example:
        >>> from workbench.models.zoo import build
        >>> teacher = build("privileged:vespcn_s", scale=2)
        >>> upscaled = teacher(torch.rand(1, 3, 3, 16, 24))
        >>> upscaled.frames.shape, upscaled.encoded.shape
        (torch.Size([1, 3, 3, 16, 24]), torch.Size([1, 3, 3, 8, 12]))
    """

    privileged = True
    temporal_radius = None  # a clip is encoded as a whole, and the decoder cuts it by its own rules: see stretches

    def __init__(self, decoder: VideoSR) -> None:
        for fault, there in (
            ("is privileged itself", decoder.privileged),
            ("restores at the same size", decoder.scale == 1),
            ("has nothing to learn", not list(decoder.parameters())),
        ):
            if there:
                name = decoder.recipe.get("name", type(decoder).__name__)
                raise ConfigError(f"decoder: it is a student's network, and {name} {fault}; choose another")
        super().__init__(scale=decoder.scale)
        self.encoder, self.decoder = Encoder(scale=decoder.scale), decoder
        decoder.check_values = False  # what the encoder makes is no user's clip
        self.num_frames, self.period, self.low_lr_params = decoder.num_frames, decoder.period, decoder.low_lr_params
        self.feature_channels, self.aligned_channels = decoder.feature_channels, decoder.aligned_channels
        theirs = decoder.info
        self.info = replace(
            theirs,
            paper="Lee et al., Learning with Privileged Information for Efficient Image Super-Resolution (PISR), ECCV "
            f"2020; the decoder: {theirs.paper}",
            year=2020,
            role="teacher",
            colour="rgb",
            differs="video, and the encoder works frame by frame; the paper has images; RGB, the paper works in Y; "
            "the decoder is any student, the paper's is FSRCNN; Charbonnier for its L1"
            + (f"; the decoder: {theirs.differs}" if theirs.differs else ""),
            without_gradient={rf"decoder\.(?:{rule})": why for rule, why in theirs.without_gradient.items()},
        )

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Reconstruct a batch of clips from a few of their own pixels.

        Args:
            clip: the truth, ``(B, T, 3, s*H, s*W)``, float RGB in [0, 1].
            return_features: see :meth:`VideoSR.forward`.

        Raises:
            ShapeError: not a batch of clips, or sides that are no multiples of the scale.
            ConfigError: ``return_features`` asks for features that the decoder does not have.
        """
        encoded = self.encode(clip, return_features)
        return replace(self.decoder(encoded, return_features=return_features), encoded=encoded)

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """The same a stretch at a time, as the decoder can; see :meth:`VideoSR.stretches`."""
        encoded = self.encode(clip, return_features)
        first = 0
        for part in self.decoder.chunks(encoded, frames=frames, return_features=return_features):
            last = first + part.frames.shape[1]
            yield replace(part, encoded=encoded[:, first:last])
            first = last

    def encode(self, high: Tensor, return_features: FeatureLayer | None = None) -> Tensor:
        """What the encoder makes of the truth: ``(B, T, 3, s*H, s*W)`` -> ``(B, T, 3, H, W)``, in float32 or more."""
        *_, height, width = self.check_input(high, return_features)
        if height % self.scale or width % self.scale:
            raise ShapeError(
                f"clip: a privileged network is given the high resolution, whose sides are multiples of {self.scale}; "
                f"got {width}x{height}"
            )
        frames = high.flatten(0, 1)
        if torch.is_grad_enabled():
            made = self.encoder(frames)
        else:
            made = torch.cat([self.encoder(some) for some in frames.split(FRAMES_PER_PASS)])
        return made.to(torch.promote_types(made.dtype, torch.float32)).unflatten(0, high.shape[:2])


def imitation(encoded: Tensor, low: Tensor) -> Tensor:
    r"""How far what the encoder makes is from the low resolution (PISR's second term of stage 1).

    .. math:: L_{im} = \operatorname{mean} |LR - E(HR)|

    With the reconstruction this is what the teacher learns from; without it the encoder is free to write a code that
    no low-resolution clip resembles, and the decoder is of no use to a student.

    Args:
        encoded: ``(B, T, 3, H, W)``, of :class:`Upscaled`.
        low: the same shape, in [0, 1]; made by the degradation of the run.

    Raises:
        ShapeError: they are of different sizes.

    Example:
        >>> imitation(torch.full((1, 1, 3, 2, 2), 0.75), torch.full((1, 1, 3, 2, 2), 0.5)).item()
        0.25
    """
    if encoded.shape != low.shape:
        raise ShapeError(f"imitation: want the encoded clip as {tuple(low.shape)}, got {tuple(encoded.shape)}")
    return (encoded.float() - low.float()).abs().mean()
