"""Weights of public SPyNets -> ours: BasicSR's and mmagic's, alone or inside a network."""

from __future__ import annotations

from collections.abc import Collection

from workbench.models.key_maps.layout import FIXED, Renames

_LEVEL, _PARAMETER = r"basic_module\.(\d)\.basic_module\.", r"\.(weight|bias)"


def spynet_renames(prefix: str = "", ours: str = "") -> Renames:
    """Return the renames of a SPyNet whose keys begin with ``prefix``, a regular expression, and whose names with ours.

    mmagic has five blocks, without a ReLU between their numbers.
    """
    return (
        (rf"{prefix}{_LEVEL}([02468]){_PARAMETER}", rf"{ours}levels.\1.\2.\3"),
        (
            rf"{prefix}{_LEVEL}([0-4])\.conv{_PARAMETER}",
            lambda found: f"{ours}levels.{found[1]}.{2 * int(found[2])}.{found[3]}",
        ),
    )


def is_spynet(keys: Collection[str]) -> bool:
    """Return whether these are the keys of a SPyNet alone."""
    return bool(keys) and all(key in FIXED or key.startswith("basic_module.") for key in keys)
