"""``workbench evaluate`` and ``compare``: numbers and pictures of networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.cli.command import command
from workbench.cli.terminal import RUNS, SCENES, OutputConsole, notes, score_table, split_names
from workbench.errors import ConfigError
from workbench.scenes import check_name

if TYPE_CHECKING:
    from workbench.evaluation.scores import Report

SCORES = Path("scores") / "scores.json"
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@command
def evaluate(
    *,
    network: str = "",
    frames_from: Path | None = None,
    protocol: str = "held_out",
    data: str = "",
    low: str | None = None,
    clips: str = "",
    degradation: str | None = None,
    scale: int | None = None,
    crop: int | None = None,
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

    Protocols: vid4, vid4_bd_crop8, reds4, vimeo90k_t, spmcs, udm10, tecogan; folders (any folder of folders of
    frames); held_out (the part of the sample clip that the shipped networks have not seen). Each fixes
    degradation, frames, border, channel and average, and says so beside the numbers.

    Args:
        network: one or more methods, separated by commas: bicubic (the default), plain, distilled, teacher, a
            weights file (also of other code bases), RUN or RUN@STEP.
        frames_from: score the frames of another program instead: DIR/<clip>/*.png, clips called as in the set,
            frames matched by the numbers in their names.
        protocol: how to score; see above.
        data: the folder of the data set; held_out needs none.
        low: low resolution on disk to be used, for example BIx4; made from the high resolution if left out.
        clips: only these clips, separated by commas.
        degradation: another family than the protocol's: bi, bd_basicvsr, bd_duf, bd_tecogan. The protocol's name
            then says so, and likewise for scale and crop.
        scale: another factor than the protocol's.
        crop: leave so many pixels out at every border instead.
        temporal: also T-diff, tOF, warping error and profile distance, which takes longer than the rest.
        perceptual: also LPIPS and tLP; needs weights that are not shipped, and says which.
        neighbors: also the gain over bicubic with other neighbor frames in place of the true ones, some of
            true,copies,reversed,far,other (docs/networks.md): what a network gains by its neighbors.
        neighbor_frames: with `neighbors`: how many frames of each clip are scored.
        neighbor_window: with `neighbors`: frames that a network of the whole clip is given at once.
        table: instead of a table for each method, one that compares them: best and second marked, with parameters,
            MACs and, measured here, time of a 180x120 frame.
        format: text for people; md, latex, csv or json for everything else.
        out: the file of scores, a number a frame; methods that are in it already are replaced, others kept.
        device: auto, cpu, cuda, mps.
        runs: where runs are looked for.
    """
    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.compare import load_method
    from workbench.evaluation.evaluate import evaluate, score_pictures
    from workbench.evaluation.neighbors import NeighborSettings
    from workbench.evaluation.protocols import find_protocol
    from workbench.evaluation.scores import check_scores, write_scores
    from workbench.evaluation.speed import measure
    from workbench.evaluation.tables import comparison, render, render_comparison
    from workbench.metrics.perceptual import load_lpips
    from workbench.models.cost import cost

    set_num_threads()
    changes = {"degradation": degradation, "scale": scale, "crop": crop}
    chosen = find_protocol(protocol).change(**{key: value for key, value in changes.items() if value is not None})
    share = None
    if neighbors:
        share = NeighborSettings(
            names=split_names(neighbors), frames_per_clip=neighbor_frames, window=neighbor_window
        )  # fmt: skip
        if frames_from is not None:
            raise ConfigError("neighbors: got --frames-from; want a network to render with (--network)")
    names = split_names(network) or ([] if frames_from else ["bicubic"])
    contenders = [load_method(name, scale=chosen.scale, runs=[runs]) for name in names]
    place = choose_device(device)
    settings = {
        "clips": split_names(clips),
        "temporal": temporal,
        "perceptual": load_lpips().to(place) if perceptual else None,
    }
    target = out / SCORES.name if out.is_dir() else out
    check_scores(target)
    reports, unwritten = [], None
    with Progress(*COLUMNS, console=notes) as bar:

        def watched(label: str) -> Any:
            task = bar.add_task(label, total=None)
            return lambda clip, done, total: bar.update(
                task, description=f"{label} {clip}", completed=done, total=total
            )

        def scored() -> Iterator[Report]:
            if frames_from is not None:
                label = frames_from.resolve().name
                yield score_pictures(frames_from, data, chosen, progress=watched(label), **settings)
            for contender in contenders:
                label = contender.method.key
                yield evaluate(
                    contender.network, data, chosen, name=label, note=contender.method.note, low=low, device=place,
                    neighbors=share, progress=watched(label), **settings,
                )  # fmt: skip

        for report in scored():
            reports.append(report)
            try:
                write_scores(target, [report])
            except OSError as error:  # hours of work are still to be printed
                unwritten = error
    if table:
        named = {contender.method.key: contender.network for contender in contenders}
        with notes.status("parameters, MACs, time"):
            costs = {key: cost(one) for key, one in named.items()}
            speeds = {key: measure(one, frames=4, device=place) for key, one in named.items()}
        print(render_comparison(comparison(reports, costs, speeds), format), end="")
    else:
        print(render(reports, format), end="")
    if unwritten is not None:
        raise unwritten
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
    effort: int = 0,
) -> int:
    """Render a clip by several methods into a scene, and score it.

    Args:
        clip: a sample's name (see `workbench samples`) or the path of a video or frame folder, with an optional
            crop: name[frames, rows, columns].
        methods: separated by commas: bicubic, plain, distilled, teacher, a weights file, RUN or RUN@STEP.
        out: the scene folder to write; its name is the scene's.
        title: what people read.
        scale: how much the clip is shrunk.
        device: auto, cpu, cuda, mps.
        runs: where runs are looked for.
        replace: overwrite a scene that is there.
        effort: of the lossless compression: 0 is fast, 6 is a fifth smaller and twenty times slower.
    """
    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.compare import compare

    check_name(out.name, "scene")
    set_num_threads()
    names = split_names(methods)
    with notes.status("reading the clip") as status:
        scene = compare(
            clip, names, out, scale=scale, title=title, runs=[runs], device=choose_device(device),
            replace=replace, effort=effort, progress=status.update,
        )  # fmt: skip
    OutputConsole().print(score_table(scene, f"{scene.title}: mean over {scene.frames} frames"))
    notes.print(f"scene: {out}; look at it with `workbench app --scenes {out.parent}`")
    return 0
