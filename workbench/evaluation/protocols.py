"""Evaluation protocols: data, degradation, scored frames, channel, border and average, each under a name.

These choices change a score by more than most papers gain, so they are stored with every score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from workbench.choices import Border
from workbench.data.datasets.clip_set import ClipEntry
from workbench.data.degradation.families import find_degradation
from workbench.errors import ConfigError, require_at_least, unknown_name
from workbench.metrics.fidelity import Channel

Frames = Literal["all", "targets", "center"]
Averaging = Literal["clips", "frames"]

CENTER_MULTIPLE, CENTER_MARGIN = 32, 8
"""Sides of TecoGAN's center crop are multiples of the one; its minimum distance from every border is the other."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Rules for scoring a network on a dataset.

    Attributes:
        name: key in :data:`PROTOCOLS`, with the changed settings.
        data_set: kind of dataset, one of ``data.datasets.registry.SETS``.
        options: further arguments for opening the dataset.
        degradation: family of the low resolution, see ``data.degradation.families``.
        scale: downsampling factor.
        channel: channel of the protocol's PSNR and SSIM; other metrics are reported with them.
        crop_border: pixels cropped at every border, for PSNR and SSIM.
        center: whether only TecoGAN's :func:`center_crop` of each frame is scored, by every metric.
        frames: scored frames: ``all``, the ``targets`` of the dataset, or the ``center`` frame of each clip.
        skip: number of these frames left out at both ends of a clip.
        border: rule of a sliding window at the ends of a clip (see ``models.windows.window_indices``); the network's
            own where None.
        averaging: ``clips``: mean over the frames of each clip, then over the clips; ``frames``: mean over all frames.
        source: publication or code that uses the protocol.
        data: default folder or clip.
    """

    name: str
    data_set: str
    options: Mapping[str, Any] = field(default_factory=dict)
    degradation: str = "bi"
    scale: int = 4
    channel: Channel = "y"
    crop_border: int = 0
    center: bool = False
    frames: Frames = "all"
    skip: int = 0
    border: Border | None = None
    averaging: Averaging = "clips"
    source: str = ""
    data: str = ""

    @property
    def description(self) -> str:
        """All settings in one sentence, printed with the scores."""
        family = find_degradation(self.degradation, self.scale).title
        frames = {"all": "all frames", "targets": "the target frames of the dataset", "center": "the middle frame"}
        parts = [
            f"{self.data_set} x{self.scale}, {family}",
            "luma" if self.channel == "y" else "RGB",
            frames[self.frames] + (f" but {self.skip} at either end" if self.skip else ""),
            f"center crop in multiples of {CENTER_MULTIPLE} pixels" if self.center else "",
            f"{self.crop_border} pixels cropped at every border" if self.crop_border else "no border cropped",
            f"windows at the ends of a clip by {self.border}" if self.border else "",
            "mean of the clips' means" if self.averaging == "clips" else "mean over all frames",
        ]
        return "; ".join(part for part in parts if part) + (f". {self.source}." if self.source else ".")

    def to_dict(self) -> dict[str, Any]:
        """Return data for JSON, with the description."""
        return {**asdict(self), "options": dict(self.options), "description": self.description}

    def change(self, **settings: Any) -> Protocol:
        """Return this protocol with other settings, which become part of its name: it is no longer the published one.

        Example:
            >>> PROTOCOLS["vid4"].change(crop_border=8, scale=4).name
            'vid4+crop_border=8'

        Raises:
            ConfigError: no such setting, or a negative number.
            UnknownNameError: no such degradation.
        """
        if unknown := settings.keys() - {one.name for one in fields(self)}:
            raise ConfigError(f"protocol {self.name!r}: no setting {', '.join(sorted(unknown))}")
        new = {key: value for key, value in settings.items() if value != getattr(self, key)}
        require_at_least(0, **{key: new[key] for key in ("crop_border", "skip") if key in new})
        find_degradation(new.get("degradation", self.degradation), new.get("scale", self.scale))
        if not new:
            return self
        name = "+".join([self.name, *(f"{key}={value}" for key, value in new.items())])
        return replace(self, name=name, source=f"Changed from {self.name}: {', '.join(new)}", **new)

    def crop(self, frame: np.ndarray, ground_truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a frame and its ground truth inside the protocol's center crop, where it has one."""
        if self.center and frame.shape == ground_truth.shape:  # of unequal shapes the scorer names both sizes
            return center_crop(frame), center_crop(ground_truth)
        return frame, ground_truth

    def scored_frames(self, clip: ClipEntry) -> list[int]:
        """Return the numbers of the scored frames of a clip.

        Raises:
            ConfigError: no frame is left.
        """
        numbers = {"all": range(clip.frames), "targets": clip.targets, "center": (clip.frames // 2,)}[self.frames]
        kept = list(numbers)[self.skip : len(numbers) - self.skip]
        if not kept:
            raise ConfigError(
                f"{clip.name}: got {clip.frames} frames, of which the protocol scores none; {self.description}"
            )
        return kept


def center_crop(frame: np.ndarray) -> np.ndarray:
    """Crop a frame as TecoGAN does: as large as possible in multiples of 32, at least 8 pixels from every border.

    Raises:
        ConfigError: the frame is too small.

    Example:
        >>> center_crop(np.zeros((480, 720, 3), np.uint8)).shape
        (448, 704, 3)
    """
    sides = [(side - 2 * CENTER_MARGIN) // CENTER_MULTIPLE * CENTER_MULTIPLE for side in frame.shape[:2]]
    if min(sides) <= 0:
        raise ConfigError(
            f"frame: got {frame.shape[1]}x{frame.shape[0]} pixels, expected {CENTER_MULTIPLE + 2 * CENTER_MARGIN} "
            "pixels a side or more"
        )
    top, left = ((side - kept) // 2 for side, kept in zip(frame.shape, sides, strict=False))
    return frame[top : top + sides[0], left : left + sides[1]]


HELD_OUT = "bigbuckbunny[96:132, :, 0:352]"
"""Frames and region of the sample clip that no shipped network was trained on (see the cards of the weights)."""

_PROTOCOLS = (
    Protocol(
        name="vid4",
        data_set="vid4",
        border="reflection_circle",
        source="Vid4 of BI tables: EDVR (with its border rule), BasicSR, BasicVSR",
    ),
    Protocol(
        name="vid4_bd_crop8",
        data_set="vid4",
        degradation="bd_duf",
        crop_border=8,
        source="Vid4 of BD tables since DUF",
    ),
    Protocol(
        name="reds4",
        data_set="reds4",
        channel="rgb",
        border="reflection_circle",
        source="EDVR (with its border rule), BasicSR, BasicVSR",
    ),
    Protocol(
        name="vimeo90k_t",
        data_set="vimeo90k",
        options={"split": "test"},
        frames="targets",
        source="TOFlow, EDVR, BasicVSR: im4 of each of the 7,824 test clips",
    ),
    Protocol(
        name="spmcs",
        data_set="spmcs30",
        frames="center",
        source="The authors of SPMC; later papers score all frames of SPMCS-11 or -30, which gives another number",
    ),
    Protocol(
        name="udm10",
        data_set="udm10",
        degradation="bd_basicvsr",
        source="BasicVSR and mmagic; PFNL, which introduced the dataset, uses bd_duf",
    ),
    Protocol(
        name="tecogan",
        data_set="vid4",
        degradation="bd_tecogan",
        skip=2,
        center=True,
        source="TecoGAN's script, which prints both averages, as the result contains both",
    ),
    Protocol(name="folders", data_set="folders", source="Any folder of frame folders"),
    Protocol(
        name="held_out",
        data_set="clip",
        data=HELD_OUT,
        source="Part of the sample clip that no shipped network was trained on",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _PROTOCOLS}
"""Name -> protocol."""


def find_protocol(name: str) -> Protocol:
    """Return the protocol of a name.

    Raises:
        UnknownNameError: no such protocol; the nearest name is suggested.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
