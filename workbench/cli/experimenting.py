"""``workbench experiment``: variants of a distillation, trained over seeds and compared."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from workbench.cli.command import command
from workbench.cli.terminal import notes, show_parts, split_names
from workbench.errors import ConfigError, require_at_least


@command
def experiment(
    *,
    data: Path | None = None,
    teacher: str = "pretrained:basicvsr_s",
    student: str = "vespcn_s",
    variants: str = "plain,sd_r0.1+td_r0.1,output_r3",
    seeds: int = 3,
    first_seed: int = 0,
    steps: int = 1000,
    crops: int = 800,
    changes: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=VALUE ...")] = (),
    validation: str = "",
    validation_set: Path | None = None,
    vid4: Path | None = None,
    temporal: Literal["all", "vid4", "none"] = "all",
    neighbors: str = "",
    primary: str = "",
    secondary: str = "",
    pairs: str = "",
    compare_with: Path | None = None,
    out: Path = Path("experiment"),
    threads: int = 0,
) -> int:
    """Train one student with different distillation losses over seeds, and compare the scores.

    Variants that are trained and scored already are not repeated: a killed experiment continues where it stopped.

    A variant is `plain` (no teacher), or losses with gradient-norm ratios (`sd_r0.1`) or weights (`sd_w0.01`), and
    settings, joined by +: `output_r3+sd_r0.1`, `sd_r0.1+attention_kind=sum_abs`, `plain+steps=2000`. Settings are
    those of `workbench train`, of the distillation without its name. Losses: sd (spatial), td (temporal), output, and
    the fields of `--distillation.losses`.

    Example: `workbench experiment --data footage --variants plain,sd_r0.1 --seeds 3`

    Args:
        data: folder of footage, raw or prepared with `workbench prepare --format arrays`; without it nothing is
            trained, and the tables of `--out` are printed.
        teacher: weights of the teacher.
        student: network of the student.
        variants: variants, separated by commas; docs/experiment.md lists those of the stored scores.
        seeds: number of seeds of each variant.
        first_seed: first of these seeds.
        steps: steps of every training.
        crops: number of fixed crops that the students are trained on, in four augmentations each.
        changes: settings of `workbench train` to change for all variants, for example `data.crop_size=24
            student.flow_weights=pretrained:flow`.
        validation: sources of the footage to hold out, separated by commas; a tenth of them if it is empty.
        validation_set: folder of clips, each a folder of frames, to score on instead of the held-out sources.
        vid4: folder of Vid4, to score on as well.
        temporal: sets that are also scored by tOF, T-diff and warping error, which takes longer than the other metrics;
            also for variants scored without them before.
        neighbors: kinds of neighbor frames, separated by commas, as in `workbench evaluate`: `true,copies` measures the
            temporal share of the variants and of the teacher, also of those scored before; empty: none.
        primary: variants, separated by commas, whose comparisons with plain are a family: their p-values are adjusted
            by Holm's method.
        secondary: variants of a second family, adjusted by itself.
        pairs: pairs of variants to compare with each other, for example `output_r3:sd_r0.1+td_r0.1`.
        compare_with: results file, for example docs/experiment/results.json, to compare every score with instead of
            printing tables; the exit status is 1 if a score lies outside of the range of the stored seeds.
        out: folder of the runs and of results.json.
        threads: CPU threads; 0: all cores, or OMP_NUM_THREADS.
    """
    from workbench.config import Network
    from workbench.evaluation.neighbors import NeighborSettings
    from workbench.experiment.report import page, reproduction
    from workbench.experiment.results import Results
    from workbench.experiment.runner import VALIDATION, VID4, prepare_footage, run_experiment
    from workbench.experiment.variants import find_variant, parse_setting, shared_config
    from workbench.models.weights import load

    chosen = [find_variant(name) for name in split_names(variants)]
    families = {
        title: [find_variant(name).name for name in split_names(names)]
        for title, names in (("Primary", primary), ("Secondary", secondary))
    }
    compared = [_pair(text) for text in split_names(pairs)]
    require_at_least(1, seeds=seeds)
    kinds = NeighborSettings(names=tuple(split_names(neighbors))) if neighbors else None
    if data is not None:
        with notes.status("preparing the footage") as status:
            data = prepare_footage(data, out / "data", split_names(validation))
            network = load(teacher)
            shared = shared_config(
                data=str(data), student=student, steps=steps, crops=crops, changes=dict(map(parse_setting, changes)),
                teacher=replace(Network(name=str(network.recipe["name"]), weights=teacher), skip=network.skip),
            )  # fmt: skip
            run_experiment(
                chosen, range(first_seed, first_seed + seeds), replace(shared, threads=threads), out,
                validation_set=validation_set, vid4=vid4, references=compare_with is None, progress=show_parts(status),
                temporal={"all": (VALIDATION, VID4), "vid4": (VID4,), "none": ()}[temporal], neighbors=kinds,
            )  # fmt: skip
    results = Results.read(out / "results.json")
    if compare_with is None:
        print(page(results, families=families, pairs=compared))
        return 0
    lines, inside = reproduction(results, Results.read(compare_with))
    print("\n".join(lines))
    return 0 if inside else 1


def _pair(text: str) -> tuple[str, str]:
    """Return the names of the two variants of a pair ``A:B``; a setting of theirs may contain colons, too."""
    from workbench.experiment.variants import find_variant

    for at in (place for place, letter in enumerate(text) if letter == ":"):
        with suppress(ConfigError):
            return find_variant(text[:at]).name, find_variant(text[at + 1 :]).name
    raise ConfigError(
        f"pairs: got {text!r}, expected two variants joined by a colon, for example output_r3:sd_r0.1+td_r0.1"
    )
