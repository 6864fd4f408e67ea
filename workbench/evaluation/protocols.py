"""How a network is scored: which data, which degradation, which frames, which channel, which border, which average.

These choices move a score by more than most papers gain, so they have a name, are kept together, and are stored beside
every number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from workbench.choices import Border
from workbench.data.datasets.clip_set import ClipEntry
from workbench.data.degradation.families import find_degradation
from workbench.errors import ConfigError, unknown_name
from workbench.metrics.fidelity import Channel

Frames = Literal["all", "targets", "centre"]
Averaging = Literal["clips", "frames"]

CENTRE_MULTIPLE, CENTRE_MARGIN = 32, 8
"""TecoGAN scores the middle of a picture: sides that are multiples of the one, at least the other from every border."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way of scoring.

    Attributes:
        name: in :data:`PROTOCOLS`; changed settings are part of it.
        data_set: the kind of set, one of ``data.datasets.SETS``.
        options: what that kind is opened with besides folder and scale.
        degradation: the family of the low resolution, see ``data.degrade``.
        scale: how many times smaller the low resolution is.
        channel: which numbers are the protocol's own; others are given beside them.
        crop: how many pixels are left out at every border, for PSNR and SSIM.
        centre: score only the middle of each picture, as TecoGAN does (:func:`middle`), under every metric.
        frames: which count: ``all``, the ``targets`` that the set names, or the ``centre`` one of each clip.
        skip: of these, how many are left out at both ends of a clip.
        border: what a sliding window sees beyond the ends of a clip, where the protocol fixes it (see
            ``models.video_sr.window_indices``); the network's own rule where None.
        averaging: ``clips``: over the frames of each clip, then over the clips; ``frames``: over all frames alike.
        source: who scores so.
        data: where the data is unless the caller says otherwise.
    """

    name: str
    data_set: str
    options: Mapping[str, Any] = field(default_factory=dict)
    degradation: str = "bi"
    scale: int = 4
    channel: Channel = "y"
    crop: int = 0
    centre: bool = False
    frames: Frames = "all"
    skip: int = 0
    border: Border | None = None
    averaging: Averaging = "clips"
    source: str = ""
    data: str = ""

    @property
    def description(self) -> str:
        """All of it in one sentence, as it is printed beside the numbers."""
        family = find_degradation(self.degradation, self.scale).title
        frames = {"all": "all frames", "targets": "the frames that the set names", "centre": "the middle frame"}
        parts = [
            f"{self.data_set} x{self.scale}, {family}",
            "luma" if self.channel == "y" else "RGB",
            frames[self.frames] + (f" but {self.skip} at either end" if self.skip else ""),
            f"the middle of the picture in multiples of {CENTRE_MULTIPLE} pixels" if self.centre else "",
            f"{self.crop} pixels left out at every border" if self.crop else "no border left out",
            f"windows at the ends of a clip by {self.border}" if self.border else "",
            "mean of the clips' means" if self.averaging == "clips" else "mean over all frames alike",
        ]
        return "; ".join(part for part in parts if part) + (f". {self.source}." if self.source else ".")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the sentence included."""
        return {**asdict(self), "options": dict(self.options), "description": self.description}

    def change(self, **settings: Any) -> Protocol:
        """This protocol with other settings, which become part of its name: it is no longer the one that is published.

        Example:
            >>> PROTOCOLS["vid4"].change(crop=8, scale=4).name
            'vid4+crop=8'

        Raises:
            ConfigError: no such setting, or a negative number.
            UnknownNameError: no such degradation.
        """
        if unknown := settings.keys() - {one.name for one in fields(self)}:
            raise ConfigError(f"protocol {self.name!r}: no setting {', '.join(sorted(unknown))}")
        new = {key: value for key, value in settings.items() if value != getattr(self, key)}
        for key in ("crop", "skip"):
            if new.get(key, 0) < 0:
                raise ConfigError(f"{key}: want 0 or more, got {new[key]}")
        find_degradation(new.get("degradation", self.degradation), new.get("scale", self.scale))
        if not new:
            return self
        name = "+".join([self.name, *(f"{key}={value}" for key, value in new.items())])
        return replace(self, name=name, source=f"Changed from {self.name}: {', '.join(new)}", **new)

    def counted(self, clip: ClipEntry) -> list[int]:
        """The numbers of the frames of a clip that are scored.

        Raises:
            ConfigError: none are left.
        """
        numbers = {"all": range(clip.frames), "targets": clip.targets, "centre": (clip.frames // 2,)}[self.frames]
        kept = list(numbers)[self.skip : len(numbers) - self.skip]
        if not kept:
            raise ConfigError(f"{clip.name}: of {clip.frames} frames none is left to score; {self.description}")
        return kept


def center_crop(frame: np.ndarray) -> np.ndarray:
    """The part of a picture that TecoGAN scores: as large as it can be in multiples of 32 with 8 pixels around it.

    Raises:
        ConfigError: the picture is too small for that.

    Example:
        >>> middle(np.zeros((480, 720, 3), np.uint8)).shape
        (448, 704, 3)
    """
    sides = [(side - 2 * CENTRE_MARGIN) // CENTRE_MULTIPLE * CENTRE_MULTIPLE for side in frame.shape[:2]]
    if min(sides) <= 0:
        raise ConfigError(f"a picture of {frame.shape[1]}x{frame.shape[0]} has no middle of {CENTRE_MULTIPLE} pixels")
    top, left = ((side - kept) // 2 for side, kept in zip(frame.shape, sides, strict=False))
    return frame[top : top + sides[0], left : left + sides[1]]


HELD_OUT = "bigbuckbunny[96:132, :, 0:352]"
"""A stretch and a part of the sample clip that no shipped network was trained on (see the cards beside the weights)."""

_PROTOCOLS = (
    Protocol(
        name="vid4",
        data_set="vid4",
        border="reflection_circle",
        source="The usual Vid4 of BI tables: EDVR (whose rule for windows it is), BasicSR, BasicVSR",
    ),
    Protocol(
        name="vid4_bd_crop8",
        data_set="vid4",
        degradation="bd_duf",
        crop=8,
        source="The usual Vid4 of BD tables that go back to DUF",
    ),
    Protocol(
        name="reds4",
        data_set="reds4",
        channel="rgb",
        border="reflection_circle",
        source="EDVR (whose rule for windows it is), BasicSR, BasicVSR",
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
        frames="centre",
        source="The authors of SPMC; later papers score all frames of SPMCS-11 or -30, which is another number",
    ),
    Protocol(
        name="udm10",
        data_set="udm10",
        degradation="bd_basicvsr",
        source="BasicVSR and mmagic; PFNL, whose set it is, takes bd_duf",
    ),
    Protocol(
        name="tecogan",
        data_set="vid4",
        degradation="bd_tecogan",
        skip=2,
        centre=True,
        source="TecoGAN's own script, which prints both averages, as the report holds both",
    ),
    Protocol(name="folders", data_set="folders", source="Any folder of folders of frames"),
    Protocol(
        name="held_out",
        data_set="clip",
        data=HELD_OUT,
        source="The part of the sample clip that the shipped networks have not seen",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _PROTOCOLS}
"""Every named protocol."""


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: there is none; the nearest is suggested.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
