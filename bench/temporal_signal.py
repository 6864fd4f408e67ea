"""Measure how much of the temporal loss depends on detail: ``python bench/temporal_signal.py``, a minute on a core.

Two shipped pairs of networks on one clip, under the old settings and today's. Columns are the measures of
``workbench.distill.diagnostics``; the last is the CPU time that the term adds to a step with cached teacher outputs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from typing import Any

import torch

from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import make_pair, to_batch
from workbench.distill.diagnostics import TemporalSignal, temporal_signal
from workbench.distill.objective import Objective, weighted_sum
from workbench.distill.temporal import TemporalMemory
from workbench.models.vespcn import VESPCN
from workbench.models.video_sr import VideoSR
from workbench.models.weights import load

PAIRS = {"16 to 16": ("basicvsr_s", "vespcn_plain"), "32 to 16": ("edvr_s", "vespcn_plain")}
SETTINGS: dict[str, dict[str, Any]] = {
    "old": {"stride": 4, "standardize": False, "border_frames": 0},
    "new": {},
    "new, all cells": {"cells": "all"},
    "new, stride 1": {"stride": 1},
}


def milliseconds(
    student: VideoSR, teacher: VideoSR, memory: TemporalMemory | None, low: torch.Tensor, high: torch.Tensor
) -> float:
    """Return the CPU time of the fastest of several steps without update, after the teacher's outputs."""
    objective = Objective(temporal_weight=1.0 if memory is not None else 0.0, memory=memory)
    with torch.no_grad():
        targets = objective.teacher_targets(teacher(low, return_features="hr"))
    best = float("inf")
    for _ in range(9):
        start = time.process_time()
        terms, _ = objective.compute_terms(student(low, return_features="hr"), high, targets)
        weighted_sum(terms, objective.weights_at(1)).backward()
        best = min(best, time.process_time() - start)
    return 1000 * best


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clip", default="bigbuckbunny[100:107, 116:244, 256:384]")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pair = make_pair(load_clip(arguments.clip).frames, scale=4)
    low, high = to_batch([(pair.low, pair.high)])
    names = [one.name for one in fields(TemporalSignal)]
    print("| channels | settings |", " | ".join(name.replace("_", " ") for name in names), "| added time |")
    print("| --- |" + " --- |" * (len(names) + 2))
    for channels, (teacher_name, student_name) in PAIRS.items():
        teacher, student = load(f"pretrained:{teacher_name}"), load(f"pretrained:{student_name}")
        assert isinstance(student, VESPCN)
        for name, settings in SETTINGS.items():
            memory = TemporalMemory(student.feature_channels, teacher.feature_channels, **settings)
            signal = temporal_signal(student, teacher, memory, low, high)
            plain, distilled = (milliseconds(student, teacher, one, low, high) for one in (None, memory))
            values = [f"{getattr(signal, name):.3g}" for name in names]
            print(f"| {channels} | {name} |", " | ".join(values), f"| {distilled / plain - 1:.0%} |")


if __name__ == "__main__":
    main()
