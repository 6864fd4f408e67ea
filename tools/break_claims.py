"""Check that the notebooks detect faults of the library: ``python tools/break_claims.py``, some minutes.

For each of a few small faults a copy of the tree is made, and the notebook that claims the opposite is run there like
in ``make notebooks``. It must fail, and the failing line is printed. The exit status is 1 if a fault was not detected.
The tree itself is not changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """A wrong line of the library, and the notebook that has to detect it."""

    kind: str
    notebook: str
    file: str
    right: str
    wrong: str


FAULTS = (
    Fault(
        "scores of shipped networks",
        "00_watch_a_student_learn",
        "workbench/models/vespcn.py",
        "            self.exit(shuffled),",
        "            -self.exit(shuffled),",
    ),
    Fault(
        "a measured phase",
        "01_a_clip_gets_small",
        "workbench/data/degradation/families.py",
        "phase=lambda scale: 0.0",
        "phase=lambda scale: 0.5",
    ),
    Fault(
        "counted multiply-adds",
        "02_two_networks",
        "workbench/models/cost.py",
        "counter.get_total_flops() // 2",
        "counter.get_total_flops()",
    ),
    Fault(
        "an attention map by hand",
        "03_where_it_looks",
        "workbench/distill/spatial.py",
        "features.abs().sum(dim=-3)",
        "features.sum(dim=-3)",
    ),
    Fault(
        "a gate by hand",
        "04_what_it_remembers",
        "workbench/distill/temporal.py",
        "i.sigmoid() * g.tanh()",
        "i.sigmoid() * g",
    ),
    Fault(
        "a reweighted sum",
        "05_distill_and_watch",
        "workbench/distill/objective.py",
        "weights[name] * term for",
        "term for",
    ),
    Fault(
        "an interval",
        "06_did_it_help",
        "workbench/experiment/comparisons.py",
        "float(student_t.ppf((1 + CONFIDENCE) / 2, seeds - 1))",
        "1.96",
    ),
)

ERRORS = re.compile(r"^.*(?:AssertionError|Error:).*$", re.MULTILINE)


def copy_of_tree(to: Path) -> None:
    """Copy the tracked files as they are now."""
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, kept.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)


def put_in(fault: Fault, tree: Path) -> None:
    """Write the fault into a copy of the tree."""
    text = (tree / fault.file).read_text(encoding="utf-8")
    if fault.right not in text:
        sys.exit(f"{fault.file}: no {fault.right!r} ; update the list of faults")
    (tree / fault.file).write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")


def run(notebook: str, tree: Path) -> tuple[bool, str]:
    """Return whether the notebook passes in that tree, and its first failing line."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--nbval-lax"]
    command += ["--nbval-current-env", f"notebooks/{notebook}.ipynb"]
    settings = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True, env=settings)
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    at = [line[1] for line in re.finditer(r"^-+> *\d+ (.*)$", output, re.MULTILINE)]
    errors = ERRORS.findall(output)
    return done.returncode == 0, (at or errors or [output[-300:]])[0].strip()


def main(*, only: tuple[str, ...] = ()) -> int:
    """Break the library in small ways and check that the notebooks detect it.

    Args:
        only: beginnings of the names of notebooks; all notebooks if empty.
    """
    undetected = 0
    for fault in FAULTS:
        if only and not fault.notebook.startswith(only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder)
            copy_of_tree(tree)
            put_in(fault, tree)
            passes, where = run(fault.notebook, tree)
        undetected += passes
        result = "NOT DETECTED" if passes else f"fails at: {where}"
        print(f"{fault.kind} ({fault.notebook}, {fault.right} -> {fault.wrong}): {result}", flush=True)
    return int(undetected > 0)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
