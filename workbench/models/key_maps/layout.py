"""Layout of the weights of another code base: how it is recognized, our names of its tensors, and the settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WeightsError
from workbench.models.layers.flow import IMAGENET_MEAN, IMAGENET_STD

State = Mapping[str, Tensor]

Renames = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Regular expressions for whole keys, and our names."""

FIXED = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
"""Constants that other code stores with the weights of SPyNet."""


@dataclass(frozen=True)
class Layout:
    """Layout of weights.

    Attributes:
        label: name for people.
        network: the name in :data:`workbench.models.zoo.NETWORKS`.
        marks: regular expressions; keys have this layout if each matches the beginning of one of them.
        renames: keys and our names; a function of the tensors where those depend on the tensors.
        settings: returns the settings of our network from tensors by our names, including its name if several networks
            have this layout.
    """

    label: str
    network: str
    marks: tuple[str, ...]
    renames: Renames | Callable[[State], dict[str, Tensor]]
    settings: Callable[[State], dict[str, Any]]

    def matches(self, keys: Collection[str]) -> bool:
        """Return whether keys have this layout."""
        return all(any(re.match(mark, key) for key in keys) for mark in self.marks)

    def convert(self, state: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the settings of our network, and the tensors by our names.

        Raises:
            WeightsError: see :func:`rename`.
        """
        tensors = self.renames(state) if callable(self.renames) else rename(state, self.renames, label=self.label)
        return self.settings(tensors), tensors


def rename(state: State, renames: Renames, *, label: str) -> dict[str, Tensor]:
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


def count_blocks(tensors: State, stack: str) -> int:
    """Return the number of residual blocks of a stack, by the names of its tensors."""
    return sum(re.fullmatch(rf"{re.escape(stack)}\.\d+\.conv1\.weight", name) is not None for name in tensors)
