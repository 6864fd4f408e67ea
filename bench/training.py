"""Time of the training engine against a plain one: ``python bench/training.py``, some twenty minutes on two cores.

Both alternate in one process, medians of interleaved rounds. The plain one is the textbook's composition, written here:
EDVR and the student window by window, everything recomputed for each; every one of the nine points of a deformable
convolution sampled by four indexed gathers; a ConvLSTM of 64 channels at high resolution, frame by frame, trained with
the student; float32, contiguous. It is also measured with our deformable convolution, and with that of torchvision
where it can be imported.

- ``train``: a training step of EDVR-M;
- ``infer``: EDVR-M on a clip of 180x120, in fp32 and bf16;
- ``distill``: a step of EDVR-M -> VESPCN, 7 frames, crop 32, the teacher live, and from a cache;
- ``cached``: a distillation step from a cache against a plain training step of the same student;
- ``logging``: a step with its line in the log, its status and its share of checkpoints, against the step alone;
- ``allocator``: ``distill`` in alternating processes, with freed memory kept and given back;
- ``processes``: one process, one with two threads, and two with gloo.

All sides of one comparison use the allocator settings of a training (``configure_torch``).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from plain import deforming_by, gathered_deform_conv, plain_step, torchvision_deform_conv, window_by_window
from torch import Tensor

from workbench.config import Data, Network, RunConfig
from workbench.models.layers import deformable
from workbench.models.sliding_window import SlidingWindow
from workbench.models.weights import save
from workbench.models.zoo import build
from workbench.runs import RunWriter
from workbench.training.accelerator import make_accelerator
from workbench.training.loop import Step
from workbench.training.record import log_row
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import Trainer, check
from workbench.training.worker import prepare_run

CLIP = ("bigbuckbunny[0:48, :, 320:640]",)
VALIDATION_CLIP = "bigbuckbunny[100:102, 64:128, 96:160]"


# -- ours -----------------------------------------------------------------------------------------------------------


class Laboratory:
    """Run folders in a temporary place, and the parts of trainings built from them as a worker builds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        for name in ("edvr_m", "edvr_s", "edvr_xs"):
            save(shaken(name, skip="bicubic"), folder / f"{name}.safetensors")

    def config(self, student: str, teacher: str = "", *, frames: int = 7, batch: int = 1, **settings: Any) -> RunConfig:
        """Settings of a run on the sample clip; ``frames`` and ``batch`` are those of its crops."""
        teaches = Network(name=teacher, weights=str(self.folder / f"{teacher}.safetensors")) if teacher else Network()
        cached = bool(settings.get("teacher_cache_dir"))
        data = Data(
            clips=CLIP,
            validation_clip=VALIDATION_CLIP,
            crop_size=32,
            num_frames=frames,
            batch_size=batch,
            num_fixed_crops=4 * cached,
            augmentations_per_crop=2,
        )
        settings = {"precision": "fp32", "device": "cpu", **settings}
        return RunConfig(student=Network(name=student), teacher=teaches, data=data, steps=10**6, **settings)

    def trainer(self, config: RunConfig) -> Trainer:
        """Build the trainer of a run as a worker does."""
        check(config)
        trainer = Trainer(config, make_accelerator(device=config.device, precision=config.precision))
        trainer.open_cache()
        return trainer

    def steps(self, config: RunConfig) -> Callable[[], Step]:
        """Return a function that runs the next step of a training, with its crops and teacher outputs."""
        rest = self.trainer(config).steps(0)
        next(rest)  # precision is a matter of the process: a training takes it up at its first step
        return lambda: next(rest)


def shaken(name: str, **settings: Any) -> Any:
    """Build a network with non-zero offsets: zero ones would be sampled faster."""
    network = build(name, **settings)
    with torch.no_grad():
        for path, parameter in network.named_parameters():
            if "conv_offset" in path:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


# -- measuring ------------------------------------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Measure the median seconds of each function, after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
            took = seconds(way)
            if number:
                times[name].append(took)
    return {name: statistics.median(taken) for name, taken in times.items()}


def print_times(title: str, times: dict[str, float], base: str) -> None:
    """Print a line for each variant: milliseconds, and the ratio to the base."""
    print(f"\n{title}", flush=True)
    for name, taken in times.items():
        print(f"  {name:42} {taken * 1e3:9.1f} ms   {taken / times[base]:6.2f}", flush=True)


def operators() -> dict[str, Callable[..., Tensor]]:
    """Return the deformable convolutions of the plain composition."""
    found: dict[str, Callable[..., Tensor]] = {"plain": gathered_deform_conv}
    found["plain, our deformable convolution"] = deformable.modulated_deform_conv
    if (theirs := torchvision_deform_conv()) is not None:
        found["plain, torchvision's deformable convolution"] = theirs
    return found


def under(operator: Callable[..., Tensor], work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        with deforming_by(operator):
            work()

    return run


def batch_of(frames: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Return the crops of both sides."""
    from workbench.data.sampling.crops import CropSampler
    from workbench.data.sampling.pairs import open_pairs

    sampler = CropSampler(list(open_pairs(CLIP[0], scale=4)), crop_size=32, num_frames=frames, batch_size=batch)
    return sampler.at(1)


def train(lab: Laboratory, rounds: int) -> None:
    network = lab.config("edvr_m", frames=5)
    low, high = batch_of(5)
    ways: dict[str, Callable[[], object]] = {"ours": lab.steps(network)}
    for name, operator in operators().items():
        torch.manual_seed(0)
        step = plain_step(shaken("edvr_m"), None)
        ways[name] = under(operator, lambda step=step: step(low, high))
    print_times("a training step of edvr_m: 5 frames, crop 32, batch 1", in_turn(ways, rounds), "ours")


def infer(rounds: int, frames: int = 6) -> None:
    torch.manual_seed(0)
    network: SlidingWindow = shaken("edvr_m").eval()
    clip = torch.rand(1, frames, 3, 120, 180)
    last = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    made: dict[str, Tensor] = {}

    def keep(name: str, work: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            made[name] = work()

        return run

    def in_bf16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return last(clip).frames

    torch.manual_seed(0)
    contiguous: SlidingWindow = shaken("edvr_m").eval()
    ways: dict[str, Callable[[], object]] = {
        "ours, fp32": keep("ours", lambda: last(clip).frames),
        "ours, bf16": keep("bf16", in_bf16),
    }
    for name, operator in operators().items():
        ways[name] = under(operator, keep(name, lambda: window_by_window(contiguous, clip).frames))
    with torch.inference_mode():
        times = in_turn(ways, rounds)
    print_times(f"edvr_m on a clip of {frames} frames of 180x120", times, "ours, fp32")
    for name in ("plain", "bf16"):
        print(f"  ours and {name} differ by at most {(made['ours'] - made[name]).abs().max():.1e}")


def distill(lab: Laboratory, rounds: int) -> None:
    low, high = batch_of(7)
    ways: dict[str, Callable[[], object]] = {
        "ours": lab.steps(lab.config("vespcn", "edvr_m")),
        "ours, bf16": lab.steps(lab.config("vespcn", "edvr_m", precision="bf16")),
        "ours, from a cache": lab.steps(
            lab.config("vespcn", "edvr_m", teacher_cache_dir=str(lab.folder / "cache_distill"))
        ),
    }
    for name, operator in operators().items():
        torch.manual_seed(0)
        step = plain_step(build("vespcn"), shaken("edvr_m"))  # pyright: ignore[reportArgumentType]
        ways[name] = under(operator, lambda step=step: step(low, high))
    times = in_turn(ways, rounds)
    print_times("a distillation step edvr_m -> vespcn: 7 frames, crop 32, batch 1", times, "ours")
    print(f"  the plain composition takes {times['plain'] / times['ours, from a cache']:.1f} times one from a cache")


def cached(lab: Laboratory, rounds: int) -> None:
    for student in ("fastdvdnet_vsr", "vespcn"):
        kept = lab.config(student, "edvr_m", teacher_cache_dir=str(lab.folder / f"cache_{student}"))
        ways = {
            "plain training": lab.steps(lab.config(student)),
            "distillation from a cache": lab.steps(kept),
        }
        print_times(f"a step of {student}: 7 frames, crop 32, batch 1", in_turn(ways, rounds), "plain training")


def logging(lab: Laboratory, rounds: int) -> None:
    """Steps as a worker records them: log, status twice a second, gradients, states and weights."""
    bare = lab.steps(lab.config("vespcn", "edvr_s", frames=5, batch=4, gradient_stats_every=0))
    config = lab.config("vespcn", "edvr_s", frames=5, batch=4)
    trainer = lab.trainer(config)
    writer = RunWriter(prepare_run(lab.folder / "logged", config).folder)
    rest = trainer.steps(0)

    def logged() -> None:
        step = next(rest)
        writer.log(log_row(step))

    times = in_turn({"bare": bare, "with its line in the log": logged}, rounds)
    print_times("a distillation step edvr_s -> vespcn, batch 4, 5 frames", times, "bare")
    status = statistics.median(seconds(lambda: writer.write_status("running", 1)) for _ in range(20))
    from workbench.training.record import save_checkpoint, save_weights

    state = statistics.median(
        seconds(
            lambda: (
                save_weights(writer, trainer.student, trainer.objective, 1, None),
                save_checkpoint(writer, 1, trainer.student, trainer.objective, trainer.optimizer, None),
            )
        )
        for _ in range(5)
    )
    gradients = gradient_seconds(trainer)
    step = times["bare"]
    shares = {
        "status, at most twice a second": status / max(0.5, step),
        f"weights and a state every {config.save_every} steps": state / config.save_every / step,
        f"each term's gradient every {config.gradient_stats_every} steps": gradients
        / config.gradient_stats_every
        / step,
        "the line in the log": max(times["with its line in the log"] - step, 0) / step,
    }
    for name, share in shares.items():
        print(f"  {name:42} {share:9.2%} of a step")
    print(f"  {'together':42} {sum(shares.values()):9.2%} of a step (snapshots of the validation clip apart)")


def gradient_seconds(trainer: Trainer) -> float:
    """Measure the additional time of a step whose gradients are measured loss by loss."""
    from workbench.training.gradient_stats import gradient_stats, parameter_gradient

    low, high = next(trainer.sampler.after(0, 1))
    assert trainer.teacher is not None
    with torch.no_grad():
        theirs = trainer.teacher(low, return_features="hr")

    def once() -> float:
        terms, _ = trainer.objective.compute_terms(trainer.student(low, return_features="hr"), high, theirs)
        return seconds(
            lambda: gradient_stats({name: parameter_gradient(term, trainer.student) for name, term in terms.items()})
        )

    once()
    return statistics.median(once() for _ in range(3))


def allocator(rounds: int, threads: int) -> None:
    """Time the live step of ``distill`` in processes that keep freed memory, and in others that return it."""
    times: dict[str, list[float]] = {"1": [], "0": []}
    for _ in range(3):
        for keeps in times:
            command = [sys.executable, __file__, "--here", "step", "--rounds", str(rounds), "--threads", str(threads)]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=os.environ | {"WORKBENCH_KEEP_MEMORY": keeps}
            )
            times[keeps].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        "freed memory is kept": statistics.median(times["1"]),
        "given back": statistics.median(times["0"]),
    }
    print_times("the allocator: a live distillation step, processes in turn", medians, "freed memory is kept")


def processes(rounds: int) -> None:
    """Measure clips a second of one and two processes with the same number of clips a step each."""
    kinds = {"one process, 1 thread": (1, 1), "one process, 2 threads": (1, 2), "two processes, 1 thread each": (2, 1)}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(3):
        for name, (count, threads) in kinds.items():
            work = [__file__, "--here", "share", "--rounds", str(rounds), "--threads", str(threads)]
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
            command = [sys.executable, *(launch if count > 1 else []), *work]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            times[name].append(json.loads(done.stdout.splitlines()[-1]))
    print("\nplain training of vespcn, 4 clips of 5 frames, crop 32, a step for every process")
    alone = statistics.median(times["one process, 1 thread"])
    for name, (count, _) in kinds.items():
        took = statistics.median(times[name])
        rate = count * alone / took
        print(f"  {name:42} {took * 1e3:9.1f} ms   {rate:6.2f} times the clips a second of one")


def step_here(rounds: int, *, shared: bool) -> None:
    """Print the median of some steps in this process as JSON on the last line."""
    with tempfile.TemporaryDirectory() as temporary:
        lab = Laboratory(Path(temporary))
        if shared:
            accelerator = make_accelerator(device="cpu")
            config = lab.config("vespcn", frames=5, batch=4 * accelerator.num_processes)
            rest = Trainer(config, accelerator).steps(0)
            times = [seconds(lambda: next(rest)) for _ in range(rounds + 1)][1:]
            accelerator.end_training()
            if not accelerator.is_main_process:
                return
        else:
            step = lab.steps(lab.config("vespcn", "edvr_m"))
            times = [seconds(step) for _ in range(rounds + 1)][1:]
    print(json.dumps(statistics.median(times)), flush=True)


TASKS = ("train", "infer", "distill", "cached", "logging", "allocator", "processes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(TASKS), help="some, separated by commas; all where left out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", choices=("step", "share"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    configure_torch(options.threads)
    if options.here:
        step_here(options.rounds, shared=options.here == "share")
        return
    if unknown := set(options.only.split(",")) - set(TASKS):
        raise SystemExit(f"no task {', '.join(sorted(unknown))}; there are: {', '.join(TASKS)}")
    print(f"torch {torch.__version__}, {options.threads} thread(s), medians of {options.rounds} interleaved rounds")
    if torchvision_deform_conv() is None:
        print("torchvision cannot be imported here: its operator is left out")
    with tempfile.TemporaryDirectory() as temporary:
        lab, rounds = Laboratory(Path(temporary)), options.rounds
        tasks: dict[str, Callable[[], None]] = {
            "train": lambda: train(lab, rounds),
            "infer": lambda: infer(rounds),
            "distill": lambda: distill(lab, rounds),
            "cached": lambda: cached(lab, rounds),
            "logging": lambda: logging(lab, rounds),
            "allocator": lambda: allocator(rounds, options.threads),
            "processes": lambda: processes(rounds),
        }
        for name in options.only.split(","):
            tasks[name]()


if __name__ == "__main__":
    main()
