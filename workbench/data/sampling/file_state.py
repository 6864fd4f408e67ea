"""State of a file of a training, so that one that is replaced during the training is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from workbench.errors import DataError


@dataclass(frozen=True)
class FileState:
    """Size and modification time of a file when it was opened."""

    path: Path
    num_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the present state of a file."""
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Check that the file is in this state.

        Raises:
            DataError: it is missing, or was changed.
        """
        try:
            now = FileState.of(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read any more ({error.strerror}); put the file back") from error
        if now != self:
            raise DataError(f"{self.path}: was changed while it was in use; start again, or resume the run")
