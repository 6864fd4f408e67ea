"""The log of a run for TensorBoard, beside the run's own; an extra that explains itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workbench.errors import ConfigError
from workbench.training.loop import Step


def open_board(folder: Path) -> Callable[[Step], None]:
    """Begin (or go on with) a TensorBoard log in ``folder/tensorboard``; returns what writes a step into it.

    Raises:
        ConfigError: the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "tensorboard: the package is not installed; `pip install tensorboard`, or set tensorboard to false "
            "(metrics.jsonl in the run folder holds the same numbers)"
        ) from error
    board = SummaryWriter(str(folder / "tensorboard"))

    def write(step: Step) -> None:
        numbers = {f"terms/{name}": value for name, value in step.terms.items()}
        numbers |= {f"weights/{name}": value for name, value in step.weights.items()}
        numbers |= {f"watched/{name}": value for name, value in step.diagnostics.items()}
        numbers |= {"total": step.total, "learning_rate": step.learning_rate, "seconds": step.seconds}
        for name, value in numbers.items():
            board.add_scalar(name, value, step.number)

    return write
