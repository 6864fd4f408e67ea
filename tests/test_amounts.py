"""Amounts of memory, by hand."""

import pytest

from workbench.amounts import list_some, parse_bytes
from workbench.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "means"),
    [("4G", 4 * 10**9), ("512M", 512 * 10**6), ("2GiB", 2**31), ("1.5 gb", 1_500_000_000), ("1000000", 10**6)],
)
def test_amounts_are_parsed(given, means):
    assert parse_bytes(given) == means


@pytest.mark.parametrize("given", ["", "G", "4X", "-4G", "0", "four", "1e9"])
def test_invalid_amounts_raise(given):
    with pytest.raises(ConfigError, match="amount"):
        parse_bytes(given)


def test_long_lists_are_cut():
    assert list_some([str(n) for n in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 4 more"
    assert list_some(["a"]) == "a"
