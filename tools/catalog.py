"""Write the sizes and costs of all networks into ``workbench/models/networks.json``: ``python tools/catalog.py``.

To be run when a network is added or changed; it takes a minute. ``tests/models/test_catalog.py`` compares.
"""

from __future__ import annotations

from workbench.atomic_files import write_atomic
from workbench.models.catalog import CATALOG
from workbench.models.zoo import count_catalog

if __name__ == "__main__":
    catalog = count_catalog()
    write_atomic(CATALOG, catalog.to_json())
    print(f"{CATALOG}: {len(catalog.rows)} networks")
