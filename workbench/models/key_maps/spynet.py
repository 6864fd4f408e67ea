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
"""Regular expressions for whole keys, and our names."""

SPYNET: Renames = (
    (r"basic_module\.(\d)\.basic_module\.([02468])\.(weight|bias)", r"levels.\1.\2.\3"),
    (
        r"basic_module\.(\d)\.basic_module\.([0-4])\.conv\.(weight|bias)",  # mmagic: five blocks, no ReLU between
        lambda found: f"levels.{found[1]}.{2 * int(found[2])}.{found[3]}",
    ),
)

FIXED = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
"""Constants that other code stores with the weights."""


def rename(state: Mapping[str, Tensor], renames: Renames, *, label: str) -> dict[str, Tensor]:
    """Rename every tensor; an unknown name is an error, except SPyNet's constants, whose values are checked.

    Raises:
        WeightsError: unknown keys, two keys for one tensor, or constants other than ImageNet's.
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
        raise WeightsError(f"{label}: {len(unknown)} unknown keys: {', '.join(unknown[:5])}")
    return tensors


def inside(prefix: str, ours: str, renames: Renames) -> Renames:
    """Return the same renames for keys with another prefix, and the prefix of our names."""

    def prefixed(target: str | Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
        return lambda found: ours + (found.expand(target) if isinstance(target, str) else target(found))

    return [(re.escape(prefix) + pattern, prefixed(target)) for pattern, target in renames]


def matches(keys: Collection[str]) -> bool:
    """Return whether these are the keys of a SPyNet alone."""
    return bool(keys) and all(key in FIXED or key.startswith("basic_module.") for key in keys)


def from_spynet(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return no settings, and the tensors of :class:`workbench.models.layers.flow.SPyNet`.

    See :func:`workbench.models.conversion.load_flow_into`.

    Raises:
        WeightsError: keys of no layer.
    """
    return {}, rename(state, SPYNET, label="SPyNet weights")
