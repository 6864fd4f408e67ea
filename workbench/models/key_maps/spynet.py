"""Weights of public SPyNets -> ours: BasicSR's and mmagic's, alone or inside a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WeightsError
from workbench.models.layers.flow import IMAGENET_MEAN, IMAGENET_STD

Renames = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Regular expressions that match the whole of their key; what it is called here."""

SPYNET: Renames = (
    (r"basic_module\.(\d)\.basic_module\.([02468])\.(weight|bias)", r"levels.\1.\2.\3"),
    (
        r"basic_module\.(\d)\.basic_module\.([0-4])\.conv\.(weight|bias)",  # mmagic: five blocks, no ReLU between
        lambda found: f"levels.{found[1]}.{2 * int(found[2])}.{found[3]}",
    ),
)

FIXED = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
"""Stored with the weights by others; part of the code here."""


def rename(state: Mapping[str, Tensor], renames: Renames, *, label: str) -> dict[str, Tensor]:
    """Give every tensor the name that ``renames`` say; none is dropped but SPyNet's constants, once they are checked.

    Raises:
        WeightsError: keys that no rename matches or that name a tensor again; constants that are not ImageNet's.
    """
    tensors: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, tensor in state.items():
        *inside, last = key.split(".")
        if last in FIXED and inside[-1:] in ([], ["spynet"]):
            if not torch.allclose(tensor.float().flatten(), torch.tensor(FIXED[last]), atol=1e-3):
                raise WeightsError(f"{label}: {key} is {tensor.flatten().tolist()}, not ImageNet's {FIXED[last]}")
            continue
        matches = ((re.fullmatch(pattern, key), ours) for pattern, ours in renames)
        names = [found.expand(ours) if isinstance(ours, str) else ours(found) for found, ours in matches if found]
        if not names or names[0] in tensors:
            unknown.append(key)
        else:
            tensors[names[0]] = tensor
    if unknown:
        raise WeightsError(f"{label}: {len(unknown)} keys are not known: {', '.join(unknown[:5])}")
    return tensors


def inside(prefix: str, ours: str, renames: Renames) -> Renames:
    """The same renames for keys that begin with ``prefix``; what comes of them begins with ``ours``."""

    def prefixed(target: str | Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
        return lambda found: ours + (found.expand(target) if isinstance(target, str) else target(found))

    return [(re.escape(prefix) + pattern, prefixed(target)) for pattern, target in renames]


def recognises(keys: Collection[str]) -> bool:
    """Whether these are the keys of a SPyNet alone."""
    return bool(keys) and all(key in FIXED or key.startswith("basic_module.") for key in keys)


def from_spynet(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """No settings, and the tensors of :class:`workbench.models.layers.flow.SPyNet`.

    A flow network that was trained elsewhere goes into a network by :func:`workbench.models.conversion.load_flow_into`.

    Raises:
        WeightsError: keys that belong to no layer.
    """
    return {}, rename(state, SPYNET, label="SPyNet weights")
