"""``workbench evaluate`` and ``compare``: scores of networks, and scenes of several methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.progress import Progress

from workbench.cli.command import command
from workbench.cli.terminal import COLUMNS, RUNS, SCENES, OutputConsole, notes, score_table, split_names
from workbench.errors import ConfigError
from workbench.scenes import check_name

if TYPE_CHECKING:
    from workbench.evaluation.scores import EvaluationResult

SCORES = Path("scores") / "scores.json"


@command
def evaluate(
    *,
    network: str = "",
    predictions: Path | None = None,
    protocol: str = "held_out",
    data: str = "",
    lr_dir: str | None = None,
    clips: str = "",
    degradation: str | None = None,
    scale: int | None = None,
    crop_border: int | None = None,
    temporal: bool = False,
    perceptual: bool = False,
    neighbors: str = "",
    neighbor_frames: int = 2,
    neighbor_window: int = 7,
    table: bool = False,
    format: Literal["text", "md", "latex", "csv", "json", "markdown"] = "text",
    out: Path = SCORES,
    device: str = "auto",
    runs: Path = RUNS,
) -> int:
    """Score networks, or frames of another program, on a dataset under a named protocol.

    Results go to stdout and into a file, everything else to stderr.

    Protocols: vid4, vid4_bd_crop8, reds4, vimeo90k_t, spmcs, udm10, tecogan; folders (any folder of frame folders);
    held_out (part of the sample clip that no shipped network was trained on). Each fixes degradation, scored frames,
    border, channel and average, which are printed with the scores.

    Example: `workbench evaluate --network bicubic,distilled --protocol vid4 --data Vid4`

    Args:
        network: methods, separated by commas: bicubic (the default), plain, distilled, teacher, a weights file (also of
            other code bases), hub:OWNER/NAME, RUN or RUN@STEP (or the path of a run's folder).
        predictions: folder of the frames of another program, which are scored instead of a network: DIR/<clip>/*.png,
            with clips named as in the dataset and frames matched by the numbers in their names.
        protocol: name of the protocol; see above.
        data: folder of the dataset; held_out needs none.
        lr_dir: folder of low resolution on disk, for example BIx4; made from the high resolution by default.
        clips: clips to score, separated by commas; all by default.
        degradation: family instead of the protocol's: bi, bd_basicvsr, bd_duf, bd_tecogan; becomes part of the
            protocol's name, as scale and crop-border do.
        scale: downsampling factor instead of the protocol's.
        crop_border: pixels cropped at every border instead of the protocol's.
        temporal: compute T-diff, tOF, warping error and MAE, too; takes longer than all others together.
        perceptual: compute LPIPS and tLP, too; needs weights that are not shipped.
        neighbors: measure the gain over bicubic with other neighbor frames instead of the true ones, some of
            true,copies,reversed,far,other (docs/networks.md).
        neighbor_frames: scored frames of each clip for `neighbors`.
        neighbor_window: frames of a window for `neighbors`, for a network that depends on the whole clip.
        table: print one table of all methods instead of one for each: best and second marked, with parameters, MACs
            and the time of a 180x120 frame on this machine.
        format: format of stdout: text, md, latex, csv or json.
        out: file of all scores per frame; results of the same method and dataset are replaced, others kept.
        device: device: auto, cpu, cuda, mps.
        runs: folder of the runs.
    """
    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.evaluate import evaluate
    from workbench.evaluation.method_table import format_method_table, method_table
    from workbench.evaluation.methods import load_methods
    from workbench.evaluation.neighbors import NeighborSettings
    from workbench.evaluation.predictions import score_predictions
    from workbench.evaluation.protocols import find_protocol
    from workbench.evaluation.scores import check_scores, write_scores
    from workbench.evaluation.speed import measure
    from workbench.evaluation.tables import format_results
    from workbench.metrics.perceptual import load_lpips
    from workbench.models.cost import cost

    set_num_threads()
    changes = {"degradation": degradation, "scale": scale, "crop_border": crop_border}
    chosen = find_protocol(protocol).change(**{key: value for key, value in changes.items() if value is not None})
    share = None
    if neighbors:
        share = NeighborSettings(
            names=split_names(neighbors), frames_per_clip=neighbor_frames, window=neighbor_window
        )  # fmt: skip
        if predictions is not None:
            raise ConfigError("neighbors: got --predictions; want a network to render with (--network)")
    names = split_names(network) or ([] if predictions else ["bicubic"])
    methods = load_methods(names, scale=chosen.scale, runs=[runs])
    target_device = choose_device(device)
    settings = {
        "clips": split_names(clips),
        "temporal": temporal,
        "perceptual": load_lpips().to(target_device) if perceptual else None,
    }
    target = out / SCORES.name if out.is_dir() else out
    check_scores(target)
    results: list[EvaluationResult] = []
    write_error: OSError | None = None
    with Progress(*COLUMNS, console=notes) as bar:

        def task(label: str) -> Callable[[str, int, int], None]:
            number = bar.add_task(label, total=None)
            return lambda clip, done, total: bar.update(
                number, description=f"{label} {clip}", completed=done, total=total
            )

        def scored() -> Iterator[EvaluationResult]:
            if predictions is not None:
                label = predictions.resolve().name
                yield score_predictions(predictions, data, chosen, progress=task(label), **settings)
            for one in methods:
                yield evaluate(
                    one.network, data, chosen, name=one.method.key, note=one.method.note, lr_dir=lr_dir,
                    device=target_device, neighbors=share, progress=task(one.method.key), **settings,
                )  # fmt: skip

        for result in scored():
            results.append(result)
            try:
                write_scores(target, [result])
            except OSError as error:  # hours of work are still to be printed
                write_error = error
    if table:
        networks = {one.method.key: one.network for one in methods}
        with notes.status("parameters, MACs, time"):
            costs = {key: cost(one) for key, one in networks.items()}
            speeds = {key: measure(one, frames=4, device=target_device) for key, one in networks.items()}
        print(format_method_table(method_table(results, costs, speeds), format), end="")
    else:
        print(format_results(results, format), end="")
    if write_error is not None:
        raise write_error
    notes.print(f"scores: {target}")
    return 0


@command
def compare(
    *,
    clip: str = "bigbuckbunny[96:120, :, 0:352]",
    methods: str = "bicubic,plain,distilled,teacher",
    out: Path = SCENES / "scene",
    title: str = "",
    scale: int = 4,
    device: str = "auto",
    runs: Path = RUNS,
    replace: bool = False,
    compression: int = 0,
) -> int:
    """Downsample a clip, upscale it by several methods, and write them with their scores as a scene.

    `workbench app` shows the scene.

    Example: `workbench compare --clip holiday.mp4[0:24] --methods bicubic,plain,distilled --out scenes/holiday`

    Args:
        clip: name of a sample (see `workbench samples`), or path of a video or frame folder, with an optional crop:
            name[frames, rows, columns].
        methods: methods, separated by commas: bicubic, plain, distilled, teacher, a weights file, RUN or RUN@STEP
            (or the path of a run's folder).
        out: folder of the scene; its name is the scene's name.
        title: title of the scene; the clip's name by default.
        scale: downsampling factor.
        device: device: auto, cpu, cuda, mps.
        runs: folder of the runs.
        replace: overwrite an existing scene.
        compression: effort of the lossless compression: 0 is fast, 6 is a fifth smaller and twenty times slower.
    """
    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.rendering import render_scene

    check_name(out.name, "scene")
    set_num_threads()
    with notes.status("reading the clip") as status:
        scene = render_scene(
            clip, split_names(methods), out, scale=scale, title=title, runs=[runs], device=choose_device(device),
            replace=replace, compression=compression, progress=status.update,
        )  # fmt: skip
    OutputConsole().print(score_table(scene, f"{scene.title}: mean over {scene.frames} frames"))
    notes.print(f"scene: {out}; show it with `workbench app --scenes {out.parent}`")
    return 0
