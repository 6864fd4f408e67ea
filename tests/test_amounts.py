"""Amounts of memory, by hand."""

import pytest

from workbench.amounts import parse_bytes
from workbench.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "means"),
    [("4G", 4 * 10**9), ("512M", 512 * 10**6), ("2GiB", 2**31), ("1.5 gb", 1_500_000_000), ("1000000", 10**6)],
)
def test_amounts(given, means):
    assert parse_bytes(given) == means


@pytest.mark.parametrize("given", ["", "G", "4X", "-4G", "0", "four", "1e9"])
def test_invalid_amounts_are_refused(given):
    with pytest.raises(ConfigError, match="want an amount such as 4G or 512MiB"):
        parse_bytes(given)
