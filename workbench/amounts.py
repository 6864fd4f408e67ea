"""Formatting, parsing and rounding of numbers: counts, amounts of memory, ends of scales."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from workbench.errors import ConfigError

UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(given: str, option: str = "memory") -> int:
    """Parse an amount of memory; an error names the option.

    Raises:
        ConfigError: not an amount.

    Example:
        >>> parse_bytes("4G"), parse_bytes("512 MiB"), parse_bytes("1.5GB")
        (4000000000, 536870912, 1500000000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", given.strip().upper())
    if found is None or found[2] not in UNITS or not float(found[1]):
        raise ConfigError(f"{option}: want an amount such as 4G or 512MiB, got {given!r}")
    return round(float(found[1]) * UNITS[found[2]])


def in_bytes(amount: float) -> str:
    """Format an amount of memory for people.

    Example:
        >>> in_bytes(1_490_000_000), in_bytes(96_200_000)
        ('1.5 GB', '96 MB')
    """
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.0f} MB"


def round_up(value: float) -> float:
    """Round up to two significant digits, for the end of a scale; 1 for a value that is not positive or not finite.

    Example:
        >>> round_up(3.14), round_up(995.2), round_up(0.0)
        (3.2, 1000.0, 1.0)
    """
    if not 0 < value < math.inf:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.6g}")


def in_units(macs: float) -> str:
    """Format a count with three digits and a unit.

    Example:
        >>> in_units(1_474_070_400), in_units(781_065_676_800), in_units(0)
        ('1.47 G', '781 G', '0')
    """
    if not macs:
        return "0"
    step = min(max(int(math.log10(macs)) // 3, 0), 4)
    value = macs / 1000**step
    digits = max(2 - int(math.log10(value)), 0)
    return f"{value:.{digits}f} {' kMGT'[step]}".strip()


def list_some(names: Sequence[str], most: int = 8) -> str:
    """List the first of many names, and the number of the others.

    Example:
        >>> list_some(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
