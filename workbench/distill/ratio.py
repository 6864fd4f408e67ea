"""Weights set by gradient-norm ratio instead of by value."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

DECAY = 0.8
"""Decay of the running mean of the logarithm of a weight: one measurement counts a fifth."""

LARGEST_CHANGE = 100.0
"""Factor by which a weight may leave its first measurement: a term whose gradient vanishes, because the ConvLSTM
ignores its input or because the student has reached the teacher, must not be amplified without bound."""


class GradientRatio(nn.Module):
    r"""Weights at which the gradient norm of each term is a fixed ratio of the reconstruction's.

    .. math:: \log w_k \leftarrow 0.8 \log w_k + 0.2 \log
        \frac{r_k \lVert \nabla L_{rec} \rVert}{\lVert \nabla L_k \rVert}

    The norms are those of the mean gradient over the whole batch (its micro-batches and processes) with respect to all
    trained parameters of the student, for terms of features and of frames alike: ``gradient.TERM`` of the log. They
    take one backward pass for the reconstruction and one for each term, every ``every`` steps, and determine the
    weights of the steps that follow; in the first step the weights are 0. The schedule's factor multiplies the weight
    and does not enter the mean.

    The mean is kept in buffers, which are saved and loaded with the objective: a resumed run has the same weights.

    Args:
        ratios: gradient-norm ratio of each term.
        every: steps between two measurements.
    """

    log_weights: Tensor
    first_log_weights: Tensor
    measured: Tensor

    def __init__(self, ratios: Mapping[str, float], *, every: int = 20) -> None:
        super().__init__()
        self.ratios = dict(ratios)
        self.every = every
        for name in ("log_weights", "first_log_weights"):
            self.register_buffer(name, torch.zeros(len(self.ratios)))
        self.register_buffer("measured", torch.zeros(len(self.ratios), dtype=torch.bool))
        self._read()
        self.register_load_state_dict_post_hook(lambda ratio, _: ratio._read())

    def _read(self) -> None:
        """Copy the buffers into lists, since reading them in every step would wait for the device."""
        self._log_weights, self._first = self.log_weights.tolist(), self.first_log_weights.tolist()
        self._measured = self.measured.tolist()

    def is_due(self, step: int) -> bool:
        """Return whether to measure at this step (from 1): every ``every`` steps, and until each term was measured."""
        return step % self.every == 0 or not all(self._measured)

    def weights(self) -> dict[str, float]:
        """Return the weight of each term; 0 for those not measured yet."""
        entries = zip(self.ratios, self._log_weights, self._measured, strict=True)
        return {name: math.exp(log_weight) if measured else 0.0 for name, log_weight, measured in entries}

    def achieved_ratios(self, norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
        """Return ``ratio.TERM``, the gradient-norm ratio of each term under the weights of a step; for the log."""
        reference = norms["reconstruction"]
        return {f"ratio.{name}": weights[name] * norms[name] / reference if reference else 0.0 for name in self.ratios}

    def update(self, norms: Mapping[str, float]) -> None:
        """Update the weights by a measurement; a norm that is 0 or not finite changes nothing.

        Args:
            norms: gradient norms of ``reconstruction`` and of each term, unweighted.
        """
        limit = math.log(LARGEST_CHANGE)
        for index, (name, ratio) in enumerate(self.ratios.items()):
            target_norm = norms["reconstruction"] * ratio
            if not (0 < target_norm < math.inf and 0 < norms[name] < math.inf):
                continue
            log_weight = math.log(target_norm) - math.log(norms[name])
            if self._measured[index]:
                first = self._first[index]
                log_weight = DECAY * self._log_weights[index] + (1 - DECAY) * log_weight
                log_weight = min(max(log_weight, first - limit), first + limit)
            else:
                self._measured[index] = True
                self._first[index] = _rounded(self.first_log_weights[index], log_weight)
                self.measured[index].fill_(True)
            self._log_weights[index] = _rounded(self.log_weights[index], log_weight)


def _rounded(stored: Tensor, value: float) -> float:
    """Store a number in a float32 buffer; returns it as it will be loaded."""
    stored.fill_(value)
    return float(np.float32(value))
