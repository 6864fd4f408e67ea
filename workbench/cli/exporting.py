"""``workbench export``: a network for other runtimes, and the proof that distillation costs it nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from workbench.cli.command import command
from workbench.cli.terminal import RUNS, notes, parse_size
from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.onnx.export import Export

DIFFERENT = 1
"""Exit status where two networks that were compared are not the same work."""


@command
def export(
    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")] = "",
    /,
    *,
    to: Literal["onnx"] = "onnx",
    out: Path | None = None,
    precision: Annotated[str, tyro.conf.arg(metavar="fp32,fp16,int8")] = "fp32",
    calibration: str = "",
    frames: int = 8,
    size: str = "",
    fresh: bool = False,
    scale: int = 4,
    compare: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="A B")] = None,
    rounds: int = 15,
    replace: bool = False,
    threads: int = 0,
    runs: Path = RUNS,
) -> int:
    """Write a network as ONNX, checked against PyTorch on a real clip; or compare two networks.

    With --compare A B two networks are exported (or taken, where they are .onnx files) and laid side by side:
    their graphs operator by operator, what their weights take, and the time of a frame. Exit status 1 if the
    graphs or the sizes differ.

    Args:
        network: plain, distilled, teacher, a weights file (also of other code bases), RUN or RUN@STEP; with --fresh
            any name that `workbench networks` lists.
        to: the format.
        out: the file; NETWORK.onnx where left out. Other precisions than fp32 get theirs into the name.
        precision: one or more, separated by commas: fp32; fp16; int8 (convolutions in 8 bits, calibrated). The
            last two are for networks without deformable convolutions.
        calibration: the clip that ranges of 8-bit layers are taken from, shrunk by the network's scale first: a
            sample's name or a path, with an optional crop; frames of the sample clip where left out.
        frames: of a clip, for networks that carry a state along it.
        size: WIDTHxHEIGHT of the low resolution, for a graph of that size only; where one for any size is not to be
            had and this is left out, 160x90.
        fresh: take random weights.
        scale: with --fresh.
        compare: two networks instead of one.
        rounds: with --compare: how often each is timed.
        replace: overwrite files that are there.
        threads: of the CPU; 0 means as many as there are cores, or as OMP_NUM_THREADS says.
        runs: where runs are looked for.
    """
    import torch

    from workbench.data.datasets.clips import load_clip
    from workbench.data.sampling.crops import make_pair
    from workbench.evaluation.compare import load_method
    from workbench.models.video_sr import VideoSR
    from workbench.models.zoo import build
    from workbench.onnx.compare import compare as compare_exported
    from workbench.onnx.export import FORMATS, Format
    from workbench.onnx.export import export as write

    if bool(network) == (compare is not None):
        raise ConfigError("name one network, or two with --compare A B")
    if threads or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or os.cpu_count() or 1)
    wanted: list[Format] = []
    for given in precision.split(","):
        if given.strip() not in FORMATS:
            raise ConfigError(f"precision: want {', '.join(FORMATS)}, got {given.strip()!r}")
        wanted.append(given.strip())  # pyright: ignore[reportArgumentType]

    width, height = parse_size(size) if size else (0, 0)
    only = (height, width) if size else None

    def find(name: str) -> VideoSR:
        return build(name, scale=scale).eval() if fresh else load_method(name, runs=[runs]).network

    if compare is not None:
        with tempfile.TemporaryDirectory() as home, notes.status("exporting") as status:
            paths = []
            for place, name in enumerate(compare):
                if Path(name).suffix == ".onnx":
                    paths.append(Path(name))
                else:
                    paths.append(write(find(name), Path(home) / f"{place}.onnx", frames=frames).path)
            status.update("timing")
            found = compare_exported(*paths, rounds=rounds)
        print(f"{'':<24} {compare[0]:>16} {compare[1]:>16}")
        milliseconds = [f"{seconds * 1e3:.4g}" for seconds in found.seconds]
        for name, values in (
            ("operators", found.operators),
            ("weights [bytes]", found.weight_bytes),
            ("file [bytes]", found.file_bytes),
            ("ms a frame", milliseconds),
        ):
            print(f"{name:<24} {values[0]:>16} {values[1]:>16}")
        for difference in found.differences:
            print(f"differs: {difference}")
        print(f"graph and size: {'the same, operator by operator' if found.same_work else 'not the same'}")
        noise = f"noise {found.noise_seconds * 1e3:.2g} ms; {found.conditions}"
        print(f"time: {'the same' if found.same_time else 'not the same'} within the noise ({noise})")
        return 0 if found.same_work else DIFFERENT

    subject = find(network)
    target = out or Path(f"{Path(network).stem.replace('@', '-')}.onnx")
    low = make_pair(load_clip(calibration).frames, scale=subject.scale).low if calibration else None
    for one in wanted:
        path = target if one == "fp32" else target.with_name(f"{target.stem}.{one}{target.suffix}")
        with notes.status(f"{path}: exporting, and checking against PyTorch"):
            made = write(subject, path, precision=one, frames=frames, size=only, calibration=low, replace_file=replace)
        print(_told(made))
    return 0


def _told(made: Export) -> str:
    free = f"; any {', '.join(made.free)}" if made.free else ""
    fixed = f"; clips of exactly {made.facts.frames} frames" if made.facts.frames else ""
    if made.facts.size:
        fixed += f"; only {made.facts.size[1]}x{made.facts.size[0]}"
    graph = {
        "windows": "clip and windows in, frames out",
        "window": f"a window of {made.facts.num_frames} frames in, its middle frame out",
        "clip": "clip in, clip out",
    }[made.facts.graph]
    loss = f"{made.psnr_db:.3f} dB, PyTorch in float32 {made.torch_psnr_db:.3f} dB: {-made.loss_db:+.3f} dB"
    lines = [
        f"{made.path}: {made.facts.name} x{made.facts.scale}, {made.facts.precision}, {made.bytes:,} bytes",
        f"  graph       {graph}{free}{fixed}",
        f"  operators   {', '.join(f'{kind} {count}' for kind, count in made.operators.items())}",
        f"  difference  {made.difference:.3g} of a range of 1 at most, from PyTorch in float32",
        f"  PSNR-Y      {loss}",
        *(f"  not         {reason}" for reason in made.refused),
    ]
    return "\n".join(lines)
