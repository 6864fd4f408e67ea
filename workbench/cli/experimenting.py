"""``workbench experiment``, ``reproduce``: the rows behind the shipped weights and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from workbench.cli.terminal import notes
from workbench.errors import ConfigError

FOLDER = Path("experiment")


def _names(given: str) -> list[str]:
    return [name for name in given.split(",") if name]


def experiment(args: Sequence[str]) -> int:
    """Train and score the rows of the experiment: one student taught in many ways, over seeds."""

    def command(
        *,
        data: Path | None = None,
        teacher: str = "pretrained:edvr_s",
        student: str = "vespcn_s",
        rows: str = "plain,sd,output",
        seeds: int = 3,
        steps: int = 1500,
        crops: int = 600,
        vid4: Path | None = None,
        validation: str = "",
        temporal: Literal["all", "vid4", "none"] = "all",
        out: Path = FOLDER,
        threads: int = 0,
    ) -> int:
        """Train and score what is missing, and print the tables; hours, in parts: killed and started again it goes on.

        Args:
            data: a folder of footage, or what `workbench prepare --form arrays` made of one; without it nothing is
                trained and the tables are printed from what is there.
            teacher: its weights.
            student: its name in the zoo.
            rows: which, separated by commas; `all` for all.
            seeds: so many of each row, from 0.
            steps: of every training.
            crops: how many fixed crops the students learn on, each in four views.
            vid4: the folder of Vid4, to score on it too.
            validation: sources of footage to hold out, separated by commas; a tenth of them where left out.
            temporal: on which sets also tOF, T-diff and warping error are scored; they take longer than the rest.
            out: where runs and results.json are kept.
            threads: CPU threads; 0: as many as there are cores.
        """
        from dataclasses import replace

        from workbench.experiment.perform import VALIDATION, VID4, footage_of, perform
        from workbench.experiment.report import page
        from workbench.experiment.results import Results
        from workbench.experiment.rows import ROWS, base, find_row
        from workbench.models.weights import load

        chosen = list(ROWS.values()) if rows == "all" else [find_row(name) for name in _names(rows)]
        if seeds < 1:
            raise ConfigError(f"seeds: want 1 or more, got {seeds}")
        if data is not None:
            with notes.status("preparing the footage"):
                data = footage_of(data, out / "data", _names(validation))
            shared = base(
                data=str(data), teacher=str(load(teacher).recipe["name"]), teacher_weights=teacher, student=student,
                steps=steps, cache=str(out / "cache"), crops=crops,
            )  # fmt: skip
            shared = replace(shared, threads=threads, teacher=replace(shared.teacher, skip=load(teacher).skip))
            with notes.status("looking at the footage") as status:
                timed = {"all": (VALIDATION, VID4), "vid4": (VID4,), "none": ()}[temporal]
                perform(chosen, range(seeds), shared, out, vid4=vid4, temporal=timed, told=status.update)
        results = Results.read(out / "results.json")
        print(page(results))
        return 0

    return tyro.cli(command, args=list(args), prog="workbench experiment")


def reproduce(args: Sequence[str]) -> int:
    """Train one row of the experiment anew, and say whether it lands where the stored scores say."""

    def command(
        row: Annotated[str, tyro.conf.Positional] = "plain",
        /,
        *,
        data: Path,
        teacher: str = "pretrained:edvr_s",
        seed: int = 0,
        vid4: Path | None = None,
        validation: str = "juggle",
        stored: Path = Path("docs/experiment/results.json"),
        out: Path = Path("reproduced"),
        threads: int = 0,
    ) -> int:
        """Train one row with one seed as the stored results say, score it, and compare.

        Args:
            row: which, see `workbench experiment --help`.
            data: the footage of the experiment (docs/data.md), prepared or not; other footage is told apart and
                compared all the same.
            teacher: its weights.
            seed: which seed; one that was not among the stored ones should land within their spread.
            vid4: the folder of Vid4, to compare there too.
            validation: sources of footage to hold out, where it is not prepared yet; separated by commas.
            stored: the results to compare with.
            out: where the run and its scores are kept.
            threads: CPU threads; 0: as many as there are cores.
        """
        from workbench.experiment.perform import footage_of
        from workbench.experiment.reproduce import compare

        with notes.status(f"training {row}, seed {seed}") as status:
            data = footage_of(data, out / "data", _names(validation))
            found = compare(
                row, seed, data=data, teacher=teacher, vid4=vid4, stored=stored, out=out, threads=threads,
                told=status.update,
            )  # fmt: skip
        for line in found.lines:
            print(line)
        return 0 if found.inside else 1

    return tyro.cli(command, args=list(args), prog="workbench reproduce")
