"""Every network by name. Grep finds it, an error lists it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from workbench.errors import ConfigError, unknown_name
from workbench.models.bicubic import Bicubic
from workbench.models.edvr import edvr_l, edvr_m, edvr_s, edvr_tiny
from workbench.models.vespcn import vespcn, vespcn_paper, vespcn_s
from workbench.models.video_sr import VideoSR, count_parameters

NETWORKS: dict[str, Callable[..., VideoSR]] = {
    "bicubic": Bicubic,
    "edvr_l": edvr_l,
    "edvr_m": edvr_m,
    "edvr_s": edvr_s,
    "edvr_tiny": edvr_tiny,
    "vespcn": vespcn,
    "vespcn_paper": vespcn_paper,
    "vespcn_s": vespcn_s,
}


def build(name: str, **settings: Any) -> VideoSR:
    """Build a network with fresh weights.

    Args:
        name: one of :data:`NETWORKS`.
        settings: what its builder takes (``scale``, ``skip`` ...); see its docstring.

    Raises:
        UnknownNameError: no such network; the nearest name is suggested.
        ConfigError: its builder does not take such a setting.

    Example:
        >>> build("vespcn", scale=2).scale
        2
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    builder = NETWORKS[name]
    taken = inspect.signature(builder).parameters
    for setting in settings:
        if setting not in taken:
            raise ConfigError(f"network {name}: no setting {setting!r}; there are: {', '.join(taken)}")
    network = builder(**settings)
    defaults = {key: parameter.default for key, parameter in taken.items()}
    network.recipe = {"name": name, **defaults, **settings}
    return network


def takes_skip(name: str) -> bool:
    """Whether the network called ``name`` has a skip connection that can be chosen."""
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return "skip" in inspect.signature(NETWORKS[name]).parameters


def table_rows() -> list[dict[str, Any]]:
    """What there is to know of every network: name, parameters, frames, channels of F^SR, one line of words."""
    rows: list[dict[str, Any]] = []
    for name, builder in NETWORKS.items():
        with torch.device("meta"):  # counted, not filled
            network = build(name)
        rows.append(
            {
                "name": name,
                "parameters": count_parameters(network),
                "frames": network.num_frames,
                "feature_channels": network.feature_channels,
                "what": (inspect.getdoc(builder) or "").splitlines()[0],
            }
        )
    return rows
