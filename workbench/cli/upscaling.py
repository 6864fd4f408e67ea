"""``workbench upscale``: a film in, a larger film out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.amounts import in_bytes, parse_bytes
from workbench.cli.terminal import RUNS, notes
from workbench.errors import ConfigError

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[speed]}"),
    TimeRemainingColumn(),
)
PARTIAL = 1
"""Exit status where the film that was read is damaged and the result shorter."""


def upscale(args: Sequence[str]) -> int:
    """Enlarge a film, however long, in bounded memory."""

    def command(
        source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")],
        out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
        *,
        network: str = "distilled",
        scale: int = 4,
        runtime: Literal["torch", "onnx"] = "torch",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        memory: str = "",
        tile: int = 0,
        overlap: int = -1,
        stretch: int = 0,
        audio: Literal["keep", "none"] = "keep",
        replace: bool = False,
        device: str = "auto",
        threads: int = 0,
        runs: Path = RUNS,
    ) -> int:
        """Enlarge a film: read, worked on and written at once, a stretch at a time; nothing is left half-written.

        Exit status: 0, all is written; 1, the film is damaged and what is written ends before the damage, whole and
        playable; 2, nothing is written.

        Args:
            source: a video file (MP4, MOV, MKV, WebM, AVI), or a folder of pictures.
            out: NAME.mp4 (H.264, lossy: for looking, never for measuring), NAME.webm (VP9, lossless), or a folder for
                PNG pictures (exact).
            network: bicubic, plain, distilled, teacher, a weights file (also of other code bases), RUN or RUN@STEP, or
                an .onnx file that `workbench export` wrote.
            scale: of bicubic; networks know their own.
            runtime: torch, or onnx: the network is exported first and ONNX Runtime computes.
            precision: of the convolutions under torch; on GPUs, and on some CPUs, bf16 is faster (`workbench bench`).
            memory: what the process may need at most, such as 4G: length of stretches and tiles are chosen by it, or
                it is refused and said how much is needed. On CUDA the device's.
            tile: work through tiles of so many low-resolution pixels a side; 0 takes whole pictures unless `memory`
                asks for less.
            overlap: low-resolution pixels that are computed around a tile and thrown away; -1 measures how far the
                network reaches.
            stretch: frames that are worked on at once; 0 means up to 16.
            audio: keep the sound, packet by packet as it is, or none.
            replace: overwrite a file that is there.
            device: auto, cpu, cuda, mps.
            threads: of the CPU; 0 means as many as there are cores, or as OMP_NUM_THREADS says.
            runs: where runs are looked for.
        """
        import torch

        from workbench.evaluation.compare import find_method
        from workbench.inference import choose_device
        from workbench.models.tiled import enough
        from workbench.upscaling import Plan, upscale_file

        for name, value in (("tile", tile), ("stretch", stretch), ("threads", threads), ("overlap", overlap + 1)):
            if value < 0:
                raise ConfigError(f"{name}: want a number of 0 or more, got {value}")
        if memory and (tile or stretch):
            raise ConfigError("memory chooses tile and stretch by itself; give one or the other")
        limit = parse_bytes(memory) if memory else None
        if threads or "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads or os.cpu_count() or 1)
        found = find_method(network, scale=scale, runs=[runs])
        place = choose_device(device)
        with ExitStack() as stack:
            runner = found.network.to(place)
            if runtime == "onnx":
                from workbench.export import export
                from workbench.models.exported import open_exported

                home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                with notes.status("exporting"):
                    runner = open_exported(export(runner, home / "network.onnx").path, threads=torch.get_num_threads())
            plan = None
            if tile:
                around, exact = enough(found.network) if overlap < 0 else (overlap, False)
                plan = Plan(chunk_frames=stretch or None, tile=tile, overlap=around, exact=exact)
            elif stretch:
                plan = Plan(chunk_frames=stretch)
            with Progress(*COLUMNS, console=notes) as bar:
                task = bar.add_task(f"{source.name} x{runner.scale}", total=None, speed="")

                def watched(done: int, total: int) -> None:
                    speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
                    bar.update(task, completed=done, total=total, speed=f"{speed:.3g} frames/s" if speed else "")

                made = upscale_file(
                    source, out, runner, device=place, precision=precision, plan=plan, memory=limit,
                    planned_for=found.network, sound=audio == "keep", replace=replace, progress=watched,
                )  # fmt: skip
        how = "lossy: H.264, for looking" if made.lossy else "exact"
        print(
            f"{made.path}: {made.frames} frames of {made.width}x{made.height} by {found.method.key}, {made.fps:.3g} "
            f"frames/s, {how}"
        )
        if made.plan.tile:
            around = f"tiles of {made.plan.tile} with {made.plan.overlap} around"
            means = "as from whole pictures, as far as the network was seen to reach" if made.plan.exact else "faded"
            notes.print(f"{around} (low-resolution pixels): {means}")
        if made.peak_bytes:
            expected = f", {in_bytes(made.plan.bytes)} were expected" if made.plan.bytes else ""
            notes.print(f"peak memory of the process: {in_bytes(made.peak_bytes)}{expected}")
        if made.fault:
            notes.print(
                f"damaged: {made.fault}\nwritten: the {made.frames} frames before that, of {made.expected} promised",
                style="yellow", markup=False,
            )  # fmt: skip
            return PARTIAL
        return 0

    return tyro.cli(command, args=list(args), prog="workbench upscale")
