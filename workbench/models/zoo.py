"""Every network by name. Grep finds it, an error lists it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from workbench.errors import ConfigError, unknown_name
from workbench.models.basicvsr import basicvsr, basicvsr_s
from workbench.models.basicvsrpp import basicvsrpp
from workbench.models.bicubic import Bicubic
from workbench.models.catalog import Catalog
from workbench.models.cost import HEIGHT, WIDTH, cost
from workbench.models.duf import duf_16l, duf_28l, duf_52l
from workbench.models.edvr import edvr_l, edvr_m, edvr_s, edvr_tiny, edvr_xs
from workbench.models.fastdvdnet import fastdvdnet, fastdvdnet_vsr
from workbench.models.iconvsr import iconvsr
from workbench.models.ltd import ltd
from workbench.models.pfnl import pfnl
from workbench.models.privileged import Privileged
from workbench.models.rsdn import rsdn
from workbench.models.spmc import spmc
from workbench.models.tdan import tdan
from workbench.models.toflow import toflow
from workbench.models.vespcn import vespcn, vespcn_paper, vespcn_s
from workbench.models.video_sr import VideoSR, count_parameters
from workbench.models.vsrnet import vsrnet, vsrnet_y

NETWORKS: dict[str, Callable[..., VideoSR]] = {
    "basicvsr": basicvsr,
    "basicvsr_s": basicvsr_s,
    "basicvsrpp": basicvsrpp,
    "bicubic": Bicubic,
    "duf_16l": duf_16l,
    "duf_28l": duf_28l,
    "duf_52l": duf_52l,
    "edvr_l": edvr_l,
    "edvr_m": edvr_m,
    "edvr_s": edvr_s,
    "edvr_tiny": edvr_tiny,
    "edvr_xs": edvr_xs,
    "fastdvdnet": fastdvdnet,
    "fastdvdnet_vsr": fastdvdnet_vsr,
    "iconvsr": iconvsr,
    "ltd": ltd,
    "pfnl": pfnl,
    "rsdn": rsdn,
    "spmc": spmc,
    "tdan": tdan,
    "toflow": toflow,
    "vespcn": vespcn,
    "vespcn_paper": vespcn_paper,
    "vespcn_s": vespcn_s,
    "vsrnet": vsrnet,
    "vsrnet_y": vsrnet_y,
}

PRIVILEGED = "privileged:"
"""``privileged:NAME`` is the teacher that sees the truth, with the network ``NAME`` as its decoder."""


def build(name: str, **settings: Any) -> VideoSR:
    """Build a network with fresh weights.

    Args:
        name: one of :data:`NETWORKS`, or ``privileged:`` and one of them (see :mod:`workbench.models.privileged`).
        settings: what its builder takes (``scale``, ``skip`` ...); see its docstring.

    Raises:
        UnknownNameError: no such network; the nearest name is suggested.
        ConfigError: its builder does not take such a setting.

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
    taken = inspect.signature(builder).parameters
    for setting in settings:
        if setting not in taken:
            raise ConfigError(f"network {name}: no setting {setting!r}; there are: {', '.join(taken)}")
    network = builder(**settings)
    defaults = {key: parameter.default for key, parameter in taken.items() if parameter.default is not parameter.empty}
    network.recipe = {"name": name, **defaults, **settings}
    return network


def takes_skip(name: str) -> bool:
    """Whether the network called ``name`` has a skip connection that can be chosen."""
    name = name.removeprefix(PRIVILEGED)
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return "skip" in inspect.signature(NETWORKS[name]).parameters


def describe(name: str) -> dict[str, Any]:
    """Return role, size and paper of a network; ``frames`` is None where it needs the whole clip.

    Raises:
        UnknownNameError: no such network.
    """
    with torch.device("meta"):  # counted, not filled
        network = build(name)
    return {
        "name": name,
        "role": network.info.role,
        "parameters": count_parameters(network),
        "frames": None if network.temporal_radius is None else network.num_frames,
        "feature_channels": network.feature_channels,
        "year": network.info.year,
        "paper": network.info.paper,
        "what": (inspect.getdoc(NETWORKS[name]) or "").splitlines()[0],
    }


def describe_with_cost(name: str) -> dict[str, Any]:
    """Return what :func:`describe` returns, and the MACs of one frame."""
    counted = cost(build(name))
    return describe(name) | {"macs": counted.macs, "macs_alone": counted.macs_alone}


def count_catalog() -> Catalog:
    """Describe all networks and count their MACs, which takes a minute; the result is stored with the package."""
    return Catalog(height=HEIGHT, width=WIDTH, rows=[describe_with_cost(name) for name in NETWORKS])
