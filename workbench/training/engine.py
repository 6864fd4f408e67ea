"""Where and how a training computes: device, precision, processes. Hugging Face's accelerate does the work.

One process or many run the same loop. ``torchrun`` or ``accelerate launch`` start many; each takes its share of every
batch and the gradients are averaged, so that the update is that of one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from workbench.config import Precision
from workbench.devices import choose_device
from workbench.errors import ConfigError
from workbench.precision import ComputePrecision, choose_precision

PRECISIONS: dict[ComputePrecision, str] = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Engine:
    """Device, precision and processes of one training.

    Args:
        device: ``auto`` (CUDA, else MPS, else the CPU), ``cpu``, ``cuda``, ``mps``. Of many processes each takes a GPU.
        precision: of the convolutions; ``auto`` is bf16 where it is faster (:mod:`workbench.precision`), and ``fp16``
            scales the loss and needs CUDA.
        accumulate: in how many pieces a batch goes through the networks.

    Attributes:
        device: where this process computes.
        processes: how many there are.
        rank: which this is; 0 writes.

    Raises:
        ConfigError: no such device here, or a precision that it cannot do.
    """

    def __init__(
        self, *, device: str | torch.device = "auto", precision: Precision = "fp32", accumulate: int = 1
    ) -> None:
        wanted = str(device).split(":")[0]
        precision = choose_precision(precision, choose_device(wanted), training=True).precision
        mixed, cpu = PRECISIONS[precision], wanted == "cpu"
        if AcceleratorState._shared_state:  # one a process; another training may want another precision or device
            shared = AcceleratorState()
            moved = cpu != (shared.device.type == "cpu") and shared.num_processes == 1
            if moved or shared.mixed_precision != mixed:
                AcceleratorState._reset_state(reset_partial_state=moved)
        self._accelerator = Accelerator(mixed_precision=mixed, cpu=cpu, gradient_accumulation_steps=accumulate)
        self.device: torch.device = self._accelerator.device
        self.processes: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self.precision: ComputePrecision = precision
        self.accumulate = accumulate
        if wanted not in ("auto", self.device.type):
            raise ConfigError(f"device: want {wanted}, but this machine offers {self.device.type}")
        if precision == "fp16" and self.device.type != "cuda":
            raise ConfigError(f"precision: fp16 needs CUDA, and this is {self.device.type}; choose bf16 or fp32")

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes the run folder."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as it must be called: under autocast, and with gradients averaged over the processes."""
        return self._accelerator.prepare_model(module)

    def drive(self, optimizer: torch.optim.Optimizer) -> AcceleratedOptimizer:
        """The optimizer as it must be called: it waits for whole batches, and scales fp16 back."""
        driven = self._accelerator.prepare_optimizer(optimizer, device_placement=False)
        assert isinstance(driven, AcceleratedOptimizer)
        return driven

    def autocast(self) -> AbstractContextManager[None]:
        """Convolutions in the precision asked for."""
        return self._accelerator.autocast()

    def piece(self, module: nn.Module) -> AbstractContextManager[None]:
        """One piece of a batch; gradients are averaged at the last."""
        return self._accelerator.accumulate(module)

    @property
    def batch_is_whole(self) -> bool:
        """Inside :meth:`piece`: whether this is the last piece."""
        return self._accelerator.sync_gradients

    def backward(self, total: Tensor) -> None:
        """Add the gradient of a piece; a mean over pieces."""
        self._accelerator.backward(total)

    def clip(self, parameters: Iterable[nn.Parameter], largest: float) -> float:
        """Shorten the gradient to a largest norm; returns its norm before."""
        norm = self._accelerator.clip_grad_norm_(list(parameters), largest)
        return 0.0 if norm is None else float(norm)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of every value over the processes."""
        if self.processes == 1 or not values:
            return values
        mine = torch.tensor(list(values.values()), dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        return dict(zip(values, self.mean_tensor(mine.to(self.device)).tolist(), strict=True))

    def mean_tensor(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        if self.processes == 1:
            return values
        whole = self._accelerator.reduce(values, "mean")
        assert isinstance(whole, Tensor)
        return whole

    @property
    def loss_scale(self) -> float:
        """Factor of the loss on the way back: above 1 in fp16 only."""
        scaler = self._accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return self.mean({"flag": float(flag)})["flag"] > 0

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Let go of the other processes."""
        if self.processes > 1:
            self._accelerator.end_training()
