"""All networks by name, with their default settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from workbench.errors import ConfigError, unknown_name
from workbench.models.basicvsr import BasicVSR
from workbench.models.basicvsrpp import BasicVSRPlusPlus
from workbench.models.bicubic import Bicubic
from workbench.models.catalog import Catalog
from workbench.models.cost import HEIGHT, WIDTH, cost
from workbench.models.duf import DUF
from workbench.models.edvr import EDVR
from workbench.models.fastdvdnet import FastDVDnet, FastDVDnetVSR
from workbench.models.iconvsr import IconVSR
from workbench.models.ltd import LTD
from workbench.models.pfnl import PFNL
from workbench.models.privileged import Privileged
from workbench.models.rsdn import RSDN
from workbench.models.spmc import SPMC
from workbench.models.tdan import TDAN
from workbench.models.toflow import TOFlow
from workbench.models.vespcn import VESPCN
from workbench.models.video_sr import VideoSR, count_parameters
from workbench.models.vsrnet import VSRNet


def _preset(builder: Callable[..., VideoSR], summary: str, **settings: Any) -> Callable[..., VideoSR]:
    """Return a builder with other defaults; the summary is its entry in the list of networks."""
    preset = partial(builder, **settings)
    preset.__doc__ = summary
    return preset


NETWORKS: dict[str, Callable[..., VideoSR]] = {
    "basicvsr": _preset(
        BasicVSR, "As published: 64 channels, 30 blocks a direction; 6,291,311 parameters, 1,440,300 of SPyNet."
    ),
    "basicvsr_s": _preset(
        BasicVSR,
        "For hours on a CPU: 32 channels, 6 blocks a direction, VESPCN's flow network. Not a published model.",
        channels=32, blocks=6, tail_channels=16, flow="compact", coupled=True, short_training=True, skip="bicubic",
    ),
    "basicvsrpp": _preset(
        BasicVSRPlusPlus,
        "As published (c64n7): 64 channels, 7 blocks a pass; 7,322,927 parameters, 1,440,300 of SPyNet.",
    ),
    "bicubic": Bicubic,
    "duf_16l": _preset(DUF, "16 layers, dynamic upsampling filters, 7 frames; 1,900,640 parameters."),
    "duf_28l": _preset(DUF, "28 narrower layers; 2,118,432 parameters.", blocks=9, growth=16),
    "duf_52l": _preset(DUF, "52 layers, the best of the paper; 5,821,952 parameters.", blocks=21, growth=16),
    "edvr_l": _preset(
        EDVR, "EDVR-L as published for Vimeo-90K: 128 channels, 40 blocks, 7 frames; 20,699,363 parameters.",
        channels=128, num_frames=7, back_blocks=40,
    ),
    "edvr_m": _preset(EDVR, "EDVR-M as published: 64 channels, 10 blocks, 5 frames; 3,300,131 parameters."),
    "edvr_s": _preset(
        EDVR, "For hours on a CPU: 32 channels, 2 + 8 blocks, 5 frames, no TSA. Not a published model.",
        channels=32, groups=4, front_blocks=2, back_blocks=8, tail_channels=32,
        with_tsa=False, short_training=True,
    ),
    "edvr_tiny": _preset(
        EDVR, "For minutes on a CPU: 16 channels, 2 + 4 blocks, 5 frames, no TSA. Not a published model.",
        channels=16, groups=4, front_blocks=2, back_blocks=4, tail_channels=16,
        with_tsa=False, short_training=True,
    ),
    "edvr_xs": _preset(
        EDVR,
        "For hours on a CPU, with the 16 features of `vespcn_s`: 24 channels, 1 + 4 blocks, 5 frames, no TSA.",
        channels=24, groups=1, front_blocks=1, back_blocks=4, tail_channels=16,
        with_tsa=False, short_training=True,
    ),
    "fastdvdnet": _preset(
        FastDVDnet, "Denoiser as published: the output has the size of the input; 2,479,096 parameters."
    ),
    "fastdvdnet_vsr": _preset(
        FastDVDnetVSR, "FastDVDnet with EDVR's tail, possibly STD's student; 2,626,247 parameters."
    ),
    "fastdvdnet_vsr_s": _preset(
        FastDVDnetVSR,
        "For a CPU: half the width of `fastdvdnet_vsr`, 16 channels at high resolution, running statistics in training "
        "too. Not a published model.",
        channels=16, entry_channels=15, tail_channels=16, norm="frozen",
    ),
    "iconvsr": _preset(
        IconVSR, "As published for REDS: BasicVSR with refills by an EDVR-M of 5 frames; 8,694,991 parameters."
    ),
    "ltd": _preset(
        LTD, "Three branches on 1, 3 and 5 aligned frames, mixed pixel by pixel, in luma; 370,677 parameters."
    ),
    "pfnl": _preset(
        PFNL, "Non-local attention, then 20 blocks of progressive fusion, 7 frames; 3,003,156 parameters."
    ),
    "rsdn": _preset(RSDN, "As published (RSDN 9-128): 128 channels, 9 blocks, no skip; 6,180,236 parameters."),
    "spmc": _preset(
        SPMC, "Forward warping onto the high-resolution grid and a ConvLSTM, in luma, 3 frames; 1,722,161 parameters."
    ),
    "tdan": _preset(
        TDAN, "Neighbors aligned to the middle frame by deformable convolutions, 5 frames; 1,970,819 parameters."
    ),
    "toflow": _preset(TOFlow, "Flow learned for the task, on upsampled frames, 7 of them; 1,405,899 parameters."),
    "vespcn": _preset(VESPCN, "Wide variant with 64 channels at high resolution; 878,787 parameters at x4."),
    "vespcn_paper": _preset(
        VESPCN, "The paper's 9L-E3-MC in RGB; 108,232 parameters at x4; no high-resolution features.", wide=False
    ),
    "vespcn_s": _preset(
        VESPCN, "For a CPU: the wide variant with 32 channels, 16 at high resolution. Not a published model.",
        channels=32, hr_channels=16,
    ),
    "vsrnet": _preset(
        VSRNet, "In RGB, on 5 bicubically upsampled frames, added to the middle one; 305,283 parameters."
    ),
    "vsrnet_y": _preset(
        VSRNet, "In luma, as published: 9-5-5, symmetric, no skip; 272,577 parameters.", color="y", skip="none"
    ),
}  # fmt: skip
"""Name -> function or class that builds the network; it takes the settings of the class by name."""

PRIVILEGED = "privileged:"
"""Prefix ``privileged:NAME`` of the teacher whose input is the ground truth, with the network ``NAME`` as its
decoder."""


def build(name: str, **settings: Any) -> VideoSR:
    """Build a network with random weights.

    Args:
        name: one of :data:`NETWORKS`, or ``privileged:`` and one of them (see :mod:`workbench.models.privileged`).
        settings: arguments of its builder (``scale``, ``skip`` ...).

    Raises:
        UnknownNameError: no such network; the message suggests the nearest name.
        ConfigError: its builder has no such argument.

    Example:
        >>> build("vespcn", scale=2).scale
        2
    """
    if name.startswith(PRIVILEGED):
        decoder = build(name.removeprefix(PRIVILEGED), **settings)
        privileged = Privileged(decoder)
        privileged.recipe = decoder.recipe | {"name": name}
        return privileged
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    builder = NETWORKS[name]
    parameters = inspect.signature(builder).parameters
    for setting in settings:
        if setting not in parameters:
            raise ConfigError(f"network {name}: no setting {setting!r}; there are: {', '.join(parameters)}")
    network = builder(**settings).train()  # frozen batch normalization is in evaluation from the start
    defaults = {
        key: parameter.default for key, parameter in parameters.items() if parameter.default is not parameter.empty
    }
    network.recipe = {"name": name, **defaults, **settings}
    return network


def takes_skip(name: str) -> bool:
    """Return whether the skip connection of the network called ``name`` is a setting."""
    name = name.removeprefix(PRIVILEGED)
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return "skip" in inspect.signature(NETWORKS[name]).parameters


def describe(name: str) -> dict[str, Any]:
    """Return role, size and paper of a network; ``frames`` is None if it depends on the whole clip.

    Raises:
        UnknownNameError: no such network.
    """
    with torch.device("meta"):  # without values
        network = build(name)
    return {
        "name": name,
        "role": network.info.role,
        "parameters": count_parameters(network),
        "frames": None if network.temporal_radius is None else network.num_frames,
        "feature_channels": network.feature_channels,
        "year": network.info.year,
        "paper": network.info.paper,
        "summary": (inspect.getdoc(NETWORKS[name]) or "").splitlines()[0],
    }


def describe_with_cost(name: str) -> dict[str, Any]:
    """Return the result of :func:`describe`, and the MACs of one frame."""
    counted = cost(build(name))
    return describe(name) | {"macs": counted.macs, "macs_alone": counted.macs_alone}


def count_catalog() -> Catalog:
    """Describe all networks and count their MACs, which takes a minute; stored with the package."""
    return Catalog(height=HEIGHT, width=WIDTH, rows=[describe_with_cost(name) for name in NETWORKS])
