"""Whose a video is, and whose a scene that was made of it: a small JSON file for each, beside them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from workbench.errors import FolderError
from workbench.scenes import write_atomic

LEFT_SECONDS = 24 * 3600.0
"""A record of something that never came, or went otherwise, is kept so long; no job waits longer."""


class Owners:
    """The records of a folder, ``KEY.json`` each: ``{"owner": name, "title": text}``.

    What shall never be tidied away has ``"kept": true`` too.

    Where nobody logs in, all names are empty, and everything is everybody's. What has no record belongs to nobody who
    can log in.

    Args:
        folder: where the records are; it is made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._known = folder, {}
        for path in folder.glob("[!.]*.json"):
            try:
                record: Any = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(record, dict) and all(isinstance(record.get(name), str) for name in ("owner", "title")):
                self._known[path.stem] = record

    def note(self, key: str, owner: str, title: str = "") -> None:
        """Write down whose something is, before anybody can ask for it.

        Raises:
            FolderError: it cannot be written.
        """
        self._write(key, {"owner": owner, "title": title})

    def keep(self, key: str) -> None:
        """Write down that something shall stay.

        Raises:
            FolderError: it cannot be written.
        """
        self._write(key, {**self._known[key], "kept": True})

    def kept(self, key: str) -> bool:
        """Whether something shall stay."""
        return self._known.get(key, {}).get("kept") is True

    def _write(self, key: str, record: dict[str, Any]) -> None:
        try:
            write_atomic(self._folder / f"{key}.json", json.dumps(record))
        except OSError as error:
            raise FolderError(f"the studio cannot write to its disk ({error.strerror}); make room there") from error
        self._known[key] = record

    def owns(self, key: str, user: str) -> bool:
        """Whether something is this user's."""
        return self._known.get(key, {}).get("owner", "") == user

    def title(self, key: str) -> str | None:
        """What was noted; None: nothing was."""
        return self._known.get(key, {}).get("title")

    def forget(self, key: str) -> None:
        """It is gone."""
        (self._folder / f"{key}.json").unlink(missing_ok=True)
        self._known.pop(key, None)

    def left(self) -> list[str]:
        """Keys of the records that are older than :data:`LEFT_SECONDS`."""
        before = time.time() - LEFT_SECONDS
        return [path.stem for path in self._folder.glob("[!.]*.json") if path.stat().st_mtime < before]
