"""The stored catalog is what the networks are; after a change: ``python tools/catalog.py``."""

import json
import subprocess
import sys

import pytest

from workbench.models.catalog import CATALOG, read_catalog
from workbench.models.cost import HEIGHT, WIDTH, cost
from workbench.models.zoo import NETWORKS, build, describe

STORED = {row["name"]: row for row in read_catalog().rows}

LONG = ("basicvsr", "basicvsrpp", "edvr_l", "edvr_m", "iconvsr", "pfnl", "duf_52l", "toflow")
"""Networks whose count takes a second and more."""


def test_the_catalog_has_the_properties_of_every_network():
    assert [*STORED] == [*NETWORKS]
    assert (read_catalog().height, read_catalog().width) == (HEIGHT, WIDTH)
    for name, row in STORED.items():
        assert describe(name) == {key: row[key] for key in row if key not in ("macs", "macs_alone")}, name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in NETWORKS]
)
def test_stored_multiply_adds_equal_counted_ones(name):
    found = cost(build(name))
    assert (found.macs, found.macs_alone) == (STORED[name]["macs"], STORED[name]["macs_alone"])


def test_the_file_equals_a_new_one():
    assert CATALOG.read_text(encoding="utf-8") == read_catalog().to_json()


def test_the_list_is_printed_without_torch(root):
    """Importing torch alone takes longer than all the rest."""
    code = (
        "import sys; from workbench.cli import main; status = main(['networks', '--format', 'json']); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, capture_output=True)
    assert made.returncode == 0, made.stderr
    assert {row["name"]: row for row in json.loads(made.stdout)} == STORED
