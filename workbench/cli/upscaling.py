"""``workbench upscale``: upscale a video file or a folder of frames."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.amounts import in_bytes, parse_bytes
from workbench.choices import Deinterlace, HdrMode, Precision
from workbench.cli.command import command
from workbench.cli.terminal import RUNS, notes
from workbench.errors import ConfigError, require_at_least

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[speed]}"),
    TimeRemainingColumn(),
)
PARTIAL = 1
"""Exit status where the source is damaged and frames are missing from the output."""


@command
def upscale(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    *,
    network: str = "distilled",
    scale: int = 4,
    runtime: Literal["torch", "onnx", "openvino", "auto"] = "torch",
    precision: Precision = "auto",
    memory: str = "",
    tile: int = 0,
    overlap: int = -1,
    chunk_frames: int = 0,
    audio: Literal["keep", "none"] = "keep",
    fps: float = 0,
    deinterlace: Deinterlace = "auto",
    hdr: HdrMode = "tonemap",
    background: str = "",
    on_damage: Literal["stop", "skip"] = "stop",
    replace: bool = False,
    device: str = "auto",
    threads: int = 0,
    runs: Path = RUNS,
) -> int:
    """Upscale a video of any length in bounded memory.

    Reader, network and writer run concurrently; an incomplete output is never left behind. Every frame keeps its
    presentation time. Audio, subtitles, chapters, pixel aspect ratio and color properties are kept if the output can
    store them; conversions and losses are printed first.

    Exit status: 0, everything is written; 1, the source is damaged and frames are missing, the output is complete and
    playable; 2, nothing is written.

    Example: `workbench upscale holiday.mp4 holiday_x4.mp4 --network distilled --memory 4G`

    Args:
        source: a video file (MP4, MOV, MKV, WebM, AVI), or a folder of frames.
        out: NAME.mp4 or NAME.mkv (H.264, lossy: for viewing, not for metrics), NAME.webm (VP9, lossless), or a
            folder for PNG files (exact).
        network: bicubic, plain, distilled, teacher, a weights file (also of other code bases), hub:OWNER/NAME, RUN or
            RUN@STEP (or the path of a run's folder), or an .onnx file by `workbench export`.
        scale: upsampling factor of bicubic; networks have their own.
        runtime: torch; onnx or openvino: the network is exported first and ONNX Runtime or OpenVINO computes; auto:
            the fastest of these on this machine, measured once per network.
        precision: precision of the convolutions under torch. auto: fp32 for exact output (.webm, a folder); for lossy
            output bf16 if a convolution is measured to be faster in it.
        memory: memory limit of the process, such as 4G: chunks and tiles are chosen by it, or the needed amount is
            printed. On CUDA that of the device.
        tile: side of tiles in low-resolution pixels; 0 uses whole frames unless `memory` needs less.
        overlap: low-resolution pixels that are computed around a tile and dropped; -1 measures the network's
            spatial radius.
        chunk_frames: frames that are processed at once; 0 means up to 16.
        audio: keep the audio tracks, packet by packet, or none.
        fps: constant frame rate. A folder of frames plays at it (25 if 0); the frames of a video file are repeated
            or left out to reach it (its own times if 0).
        deinterlace: use bwdif for frames that are marked as interlaced, for all, or for none.
        hdr: map PQ and HLG to SDR (EETF of BT.2390), keep the code values and their marks, or refuse.
        background: color behind transparent pixels, such as black, white or #00ff00; without one they are refused.
        on_damage: stop before damage of a video file, or skip to the next key frame and keep all times.
        replace: overwrite a file that exists.
        device: device of the network: auto, cpu, cuda, mps.
        threads: CPU threads; 0 means as many as there are cores, or OMP_NUM_THREADS.
        runs: folder of runs.
    """
    from workbench.data.video.color import Conversion
    from workbench.data.video.transfer import TransferPlan
    from workbench.data.video.write import coding_of, is_folder_name
    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.methods import load_method
    from workbench.inference.memory_plan import Plan
    from workbench.inference.runtime import choose_runtime, open_runtime
    from workbench.inference.tiles import default_overlap
    from workbench.inference.video import upscale_file
    from workbench.onnx.run import open_exported
    from workbench.precision import choose_precision

    require_at_least(0, tile=tile, chunk_frames=chunk_frames, threads=threads, fps=fps)
    require_at_least(-1, overlap=overlap)
    if memory and (tile or chunk_frames):
        raise ConfigError("memory chooses tile and chunk_frames by itself; give one or the other")
    conversion = Conversion(deinterlace=deinterlace, hdr=hdr, background=parse_color(background))
    limit = parse_bytes(memory) if memory else None
    set_num_threads(threads)
    method = load_method(network, scale=scale, runs=[runs])
    place = choose_device(device)
    exact_output = is_folder_name(out) or coding_of(out).rgb
    wanted = "fp32" if runtime != "torch" or (precision == "auto" and exact_output) else precision
    chosen = choose_precision(wanted, place)
    if precision == "auto" and chosen.precision != "fp32":
        notes.print(f"precision: {chosen.reason}")

    shown: list[str] = []

    def announce(transfer: TransferPlan) -> None:
        shown.extend(one.text for one in transfer.treatments)
        if kept := transfer.texts("kept"):
            notes.print(f"kept: {'; '.join(kept)}", markup=False)
        for outcome, label, style in (("noticed", "notice", "yellow"), ("converted", "converted", None),
                                      ("lost", "not kept", "yellow")):  # fmt: skip
            for text in transfer.texts(outcome):
                notes.print(f"{label}: {text}", style=style, markup=False)

    with ExitStack() as stack:
        runner = method.network.to(place)
        if Path(network).suffix == ".onnx":
            if runtime == "openvino":
                runner = open_exported(network, runtime=runtime)
        elif runtime != "torch" and not (runtime == "auto" and place.type != "cpu"):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if runtime == "auto":
                with notes.status("timing the installed runtimes, if this network is new here"):
                    choice = choose_runtime(runner, folder)
                notes.print(f"runtime: {choice.reason}")
                runtime = choice.runtime
            if runtime != "torch":
                with notes.status("exporting"):
                    runner = open_runtime(runner, runtime, folder)
        plan = None
        if tile:
            around, exact = default_overlap(method.network) if overlap < 0 else (overlap, False)
            plan = Plan(chunk_frames=chunk_frames or None, tile=tile, overlap=around, exact=exact)
        elif chunk_frames:
            plan = Plan(chunk_frames=chunk_frames)
        bar = Progress(*COLUMNS, console=notes)
        task = bar.add_task(f"{source.name} x{runner.scale}", total=None, speed="")
        status = stack.enter_context(notes.status(f"{source.name} x{runner.scale}: first frame"))

        def watched(done: int, total: int) -> None:
            if not bar.live.is_started:
                status.stop()
                stack.enter_context(bar)
            speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
            bar.update(task, completed=done, total=total, speed=f"{speed:.3g} frames/s" if speed else "")

        result = upscale_file(
            source, out, runner, device=place, precision=chosen.precision, plan=plan, memory=limit,
            planned_for=method.network, audio=audio == "keep", fps=fps or None, on_damage=on_damage,
            conversion=conversion, replace=replace, announce=announce, progress=watched,
        )  # fmt: skip
    how = "lossy: H.264, for viewing" if result.lossy else "exact"
    print(
        f"{result.path}: {result.frames} frames of {result.width}x{result.height} by {method.method.key}, "
        f"{result.fps:.3g} frames/s, {how}"
    )
    if fps and source.is_file():
        notes.print(f"constant rate: {result.repeated} frames repeated, {result.omitted} left out")
    if result.interlaced and not any("interlaced" in text for text in shown):
        what = "left as they were" if deinterlace == "off" else "deinterlaced by bwdif"
        notes.print(f"notice: {result.interlaced} frames further on are interlaced and were {what}", style="yellow")
    if result.plan.tile:
        around = f"tiles of {result.plan.tile} with {result.plan.overlap} around"
        means = "equal to whole frames, as far as the spatial radius was measured" if result.plan.exact else "blended"
        notes.print(f"{around} (low-resolution pixels): {means}")
    if result.peak_bytes:
        expected = f", {in_bytes(result.plan.bytes)} were expected" if result.plan.bytes else ""
        notes.print(f"peak memory of the process: {in_bytes(result.peak_bytes)}{expected}")
    if result.track_fault:
        notes.print(f"not kept: the end of the copied tracks, which is damaged ({result.track_fault})", style="yellow")
    if result.fault:
        missing = "; ".join(map(_describe_gap, result.missing_seconds))
        notes.print(
            f"damaged: {result.fault}\nwritten: {result.frames} frames, of {result.expected} promised"
            + (f"\nmissing: {missing}" if missing else ""),
            style="yellow", markup=False, highlight=False,
        )  # fmt: skip
        return PARTIAL
    return 0


def parse_color(text: str) -> tuple[int, int, int] | None:
    """Parse the name of a color or ``#rrggbb``; None where the text is empty.

    Raises:
        ConfigError: no such color.

    Example:
        >>> parse_color("white"), parse_color("#00ff00"), parse_color("")
        ((255, 255, 255), (0, 255, 0), None)
    """
    from PIL import ImageColor

    if not text:
        return None
    try:
        values = ImageColor.getrgb(text)
    except ValueError:
        values = ()
    if len(values) != 3:
        raise ConfigError(f"background: want a color such as black, white or #00ff00, got {text!r}")
    return values[0], values[1], values[2]


def _describe_gap(missing: tuple[float | None, float | None]) -> str:
    start, end = (None if seconds is None else f"{seconds:.2f} s" for seconds in missing)
    return f"from {start or 'the beginning'} to {end or 'the end'}"
