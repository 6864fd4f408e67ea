"""What a page that leaves this machine may not say of it: where its files lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INSIDE = re.compile(r"(?<![\w/\\.~])(?:file://)?(?:[A-Za-z]:[\\/]|~[\w.-]*/|\\\\|/)(?:[^\s\\/'\"<>|,;:()]+[\\/])+")
"""The folders of an absolute path inside a text."""

ABSOLUTE = re.compile(r"(?:file://)?(?:[A-Za-z]:[\\/]|~[\w.-]*/|\\\\|/).*[\\/](?=[^\\/\n]*$)")
"""The folders of a text that is an absolute path and nothing else, which may hold spaces."""


def without_paths(value: Any) -> Any:
    r"""A JSON value without the folders of this machine: of an absolute path in a text its last part stays.

    Example:
        >>> without_paths({"clip": "/data/my films/a.mp4", "note": "read from C:\\data\\b.mp4, 1/2 of it"})
        {'clip': '…/a.mp4', 'note': 'read from …/b.mp4, 1/2 of it'}
    """
    if isinstance(value, str):
        home = str(Path.home())
        text = value.replace(home, "~") if len(home) > 1 else value
        return INSIDE.sub("…/", ABSOLUTE.sub("…/", text) if ABSOLUTE.match(text) else text)
    if isinstance(value, Mapping):
        return {without_paths(name): without_paths(inner) for name, inner in value.items()}
    return [without_paths(inner) for inner in value] if isinstance(value, list | tuple) else value
