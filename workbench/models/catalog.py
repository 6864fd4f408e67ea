"""Catalog of the networks: sizes, costs and papers as stored with the package, read without torch.

``networks.json`` is written by ``tools/catalog.py`` and compared with the networks by a test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CATALOG = Path(__file__).with_name("networks.json")


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Networks with their properties and costs.

    Args:
        height: of the low-resolution frame of the costs.
        width: of the same frame.
        rows: one per network: ``name``, ``role``, ``parameters``, ``frames`` (None for the whole clip),
            ``feature_channels``, ``year``, ``paper``, ``summary``, ``macs``, ``macs_alone``
            (see :class:`workbench.models.cost.Cost`).
    """

    height: int
    width: int
    rows: Sequence[Mapping[str, Any]]

    @property
    def size(self) -> str:
        """Width and height of the frame, as text."""
        return f"{self.width}x{self.height}"

    def to_json(self) -> str:
        """Return the content of ``networks.json``."""
        return json.dumps({"height": self.height, "width": self.width, "networks": list(self.rows)}, indent=1) + "\n"


def read_catalog() -> Catalog:
    """Read the catalog that is stored with the package."""
    stored = json.loads(CATALOG.read_text(encoding="utf-8"))
    return Catalog(height=stored["height"], width=stored["width"], rows=stored["networks"])
