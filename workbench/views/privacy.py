"""Removal of this machine's folders from texts of a page that leaves it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INSIDE = re.compile(r"(?<![\w/\\.~])(?:file://)?(?:[A-Za-z]:[\\/]|~[\w.-]*/|\\\\|/)(?:[^\s\\/'\"<>|,;:()]+[\\/])+")
"""Folders of an absolute path inside a text."""

ABSOLUTE = re.compile(r"(?:file://)?(?:[A-Za-z]:[\\/]|~[\w.-]*/|\\\\|/).*[\\/](?=[^\\/\n]*$)")
"""Folders of a text that is nothing but an absolute path, which may contain spaces."""


def without_paths(value: Any) -> Any:
    r"""Return a JSON value in which absolute paths are shortened to their last part.

    Example:
        >>> without_paths({"clip": "/data/my videos/a.mp4", "note": "read from C:\\data\\b.mp4, 1/2 of it"})
        {'clip': '…/a.mp4', 'note': 'read from …/b.mp4, 1/2 of it'}
    """
    if isinstance(value, str):
        home = str(Path.home())
        text = value.replace(home, "~") if len(home) > 1 else value
        return INSIDE.sub("…/", ABSOLUTE.sub("…/", text) if ABSOLUTE.match(text) else text)
    if isinstance(value, Mapping):
        return {without_paths(name): without_paths(inner) for name, inner in value.items()}
    return [without_paths(inner) for inner in value] if isinstance(value, list | tuple) else value
