"""State of a file of a training, so that one that is replaced during the training is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from workbench.errors import DataError

REPAIR = "copy it again, or run `workbench prepare` again, which repairs prepared files"


@dataclass(frozen=True)
class FileState:
    """Size and modification time of a file when it was opened."""

    path: Path
    num_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, num_bytes: int | None = None) -> Self:
        """Return the present state of a file.

        Args:
            path: path of the file.
            num_bytes: its required size; None: any.

        Raises:
            DataError: it is missing, or of another size.
        """
        try:
            stat = os.stat(path)
        except OSError as error:
            raise DataError(f"{path}: is missing or cannot be read ({error.strerror}); {REPAIR}") from error
        if num_bytes not in (None, stat.st_size):
            raise DataError(f"{path}: has {stat.st_size:,} of {num_bytes:,} bytes; {REPAIR}")
        return cls(path, stat.st_size, stat.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Check that the file is in this state.

        Raises:
            DataError: it is missing, or was changed.
        """
        if FileState.of(self.path) != self:
            raise DataError(f"{self.path}: was changed while it was in use; start again, or resume the run")
