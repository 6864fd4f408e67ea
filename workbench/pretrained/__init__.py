"""Shipped weights, run folders and scenes, and the networks behind the method names."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from safetensors import safe_open

HOME = Path(__file__).parent

DISTILLED = "vespcn_output"
"""Shipped student that the method name `distilled` selects: the best measured one."""

RUN = "vespcn_std"
"""Shipped run of a distillation, with snapshots."""

SET = {"teacher": "basicvsr_s", "plain": "vespcn_plain", "distilled": DISTILLED}
"""Method name -> shipped network."""


@cache
def shipped_networks() -> dict[str, list[str]]:
    """Return the shipped networks by name, each with the names of the losses that compared it with a teacher.

    A network has the recipe of its layers in its file; the flow network and the ConvLSTM have none.
    """
    networks = {}
    for path in sorted(HOME.glob("*.safetensors")):
        with safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
        if "recipe" in metadata:
            networks[path.stem] = json.loads(metadata.get("card", "{}")).get("losses", [])
    return networks
