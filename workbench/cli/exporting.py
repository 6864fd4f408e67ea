"""``workbench export``: export of networks to ONNX, and comparison of exported networks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from workbench.cli.command import command
from workbench.cli.terminal import RUNS, notes, parse_size, split_choices
from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.onnx.export import Export

DIFFERENT = 1
"""Exit status if two compared networks are not the same work."""


@command
def export(
    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")] = "",
    /,
    *,
    out: Path | None = None,
    precision: Annotated[str, tyro.conf.arg(metavar="fp32,fp16,int8")] = "fp32",
    calibration: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CLIP ...")] = (),
    frames: int = 8,
    size: str = "",
    random_weights: bool = False,
    scale: int = 4,
    compare: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="A B")] = None,
    rounds: int = 15,
    replace: bool = False,
    verbose: bool = False,
    threads: int = 0,
    runs: Path = RUNS,
) -> int:
    """Export a network to ONNX and compare it with PyTorch, or compare two networks.

    The frames of a real clip must equal those of PyTorch. With --compare A B two networks are exported (or read, if
    they are .onnx files) and compared: their graphs operator by operator, the size of their weights, and the time per
    frame. Exit status 1 if the graphs or the sizes differ.

    Example: `workbench export distilled --out distilled.onnx --precision fp32,int8`

    Args:
        network: plain, distilled, teacher, a weights file (also of other code bases), RUN or RUN@STEP (or the path of
            a run's folder); with --random-weights any name that `workbench networks` lists.
        out: the file; by default NETWORK.onnx. The names of files in other precisions than fp32 contain the precision.
        precision: one or more, separated by commas: fp32; fp16; int8 (convolutions in 8 bits, calibrated). The last two
            are for networks without deformable convolutions.
        calibration: clips for the ranges of 8-bit layers, downsampled by the network's scale first: names of samples or
            paths, each with an optional crop; by default short parts of bigbuckbunny, bikes and carphone.
        frames: length of a clip, for networks that carry a state along it.
        size: WIDTHxHEIGHT of the low resolution, for a graph of that size only; by default 160x90 if a graph for any
            size fails.
        random_weights: use random weights.
        scale: upsampling factor, with --random-weights.
        compare: two networks instead of one.
        rounds: measurements of each network, with --compare.
        replace: overwrite files that exist.
        verbose: print how often the graph uses each operator.
        threads: CPU threads; 0 means as many as there are cores, or OMP_NUM_THREADS.
        runs: folder of runs.
    """
    from workbench.data.datasets.clips import load_clip
    from workbench.data.sampling.crops import make_pair
    from workbench.devices import set_num_threads
    from workbench.evaluation.methods import load_method
    from workbench.models.video_sr import VideoSR
    from workbench.models.zoo import build
    from workbench.onnx.compare import compare as compare_exported
    from workbench.onnx.export import FORMATS
    from workbench.onnx.export import export as write

    if bool(network) == (compare is not None):
        raise ConfigError("name one network, or two with --compare A B")
    set_num_threads(threads)
    formats = split_choices(precision, FORMATS, "precision")
    width, height = parse_size(size) if size else (0, 0)
    fixed_size = (height, width) if size else None

    def find(name: str) -> VideoSR:
        return build(name, scale=scale).eval() if random_weights else load_method(name, runs=[runs]).network

    if compare is not None:
        with tempfile.TemporaryDirectory() as folder, notes.status("exporting") as status:
            paths = []
            for number, name in enumerate(compare):
                if Path(name).suffix == ".onnx":
                    paths.append(Path(name))
                else:
                    paths.append(write(find(name), Path(folder) / f"{number}.onnx", frames=frames).path)
            status.update("timing")
            result = compare_exported(*paths, rounds=rounds)
        print(f"{'':<24} {compare[0]:>16} {compare[1]:>16}")
        milliseconds = [f"{seconds * 1e3:.4g}" for seconds in result.seconds]
        for name, values in (
            ("operators", result.operators),
            ("weights [bytes]", result.weight_bytes),
            ("file [bytes]", result.file_bytes),
            ("ms a frame", milliseconds),
        ):
            print(f"{name:<24} {values[0]:>16} {values[1]:>16}")
        for difference in result.differences:
            print(f"differs: {difference}")
        print(f"graph and size: {'the same, operator by operator' if result.same_work else 'not the same'}")
        noise = f"noise {result.noise_seconds * 1e3:.2g} ms; {result.conditions}"
        print(f"time: {'the same' if result.same_time else 'not the same'} within the noise ({noise})")
        return 0 if result.same_work else DIFFERENT

    exported = find(network)
    target = out or Path(f"{Path(network).stem.replace('@', '-')}.onnx")
    low = [make_pair(load_clip(clip).frames, scale=exported.scale).low for clip in calibration]
    for one in formats:
        path = target if one == "fp32" else target.with_name(f"{target.stem}.{one}{target.suffix}")
        with notes.status(f"{path}: exporting, and checking against PyTorch"):
            result = write(
                exported, path, precision=one, frames=frames, size=fixed_size, calibration=low, replace_file=replace
            )
        print(_describe(result, verbose=verbose))
    return 0


def _describe(result: Export, *, verbose: bool) -> str:
    free = f"; any {', '.join(result.free)}" if result.free else ""
    fixed = f"; clips of exactly {result.metadata.frames} frames" if result.metadata.frames else ""
    if result.metadata.size:
        fixed += f"; only {result.metadata.size[1]}x{result.metadata.size[0]}"
    graph = {
        "windows": "clip and windows in, frames out",
        "window": f"a window of {result.metadata.num_frames} frames in, its middle frame out",
        "clip": "clip in, clip out",
    }[result.metadata.graph]
    loss = f"{result.psnr_db:.3f} dB, PyTorch in float32 {result.torch_psnr_db:.3f} dB: {-result.loss_db:+.3f} dB"
    operators = f"{sum(result.operators.values())} of {len(result.operators)} kinds; --verbose counts each"
    if verbose:
        operators = ", ".join(f"{kind} {count}" for kind, count in result.operators.items())
    lines = [
        f"{result.path}: {result.metadata.name} x{result.metadata.scale}, {result.metadata.precision}, "
        f"{result.bytes:,} bytes",
        f"  graph       {graph}{free}{fixed}",
        f"  operators   {operators}",
        f"  difference  {result.difference:.3g} at most from PyTorch in float32, for values in [0, 1]",
        f"  PSNR-Y      {loss}",
        *(f"  rejected    {reason}" for reason in result.refused),
    ]
    return "\n".join(lines)
