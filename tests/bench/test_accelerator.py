"""The bench of an accelerator: its smoke form on the CPU, and failures, which are reported and end nothing else."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def bench(root, monkeypatch):
    """Import the script as it imports its own parts."""
    monkeypatch.syspath_prepend(os.fspath(root / "bench"))
    import accelerator

    return accelerator


def test_a_failure_is_a_row_of_the_table(bench, tmp_path):
    from accelerator_parts import Item, Result

    def fail():
        raise ValueError("a | b\nc")

    items = [
        Item("first", fail),
        Item("second", lambda: Result({"error": 2e-7}, True)),
        Item("third", lambda: Result({"ours: ms": 1234.5})),
        Item("fourth", lambda: Result({"error": 1.0}, False)),
    ]
    bench.run_items("parity", items, tmp_path / "rows.json", limit=60.0)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["passed"] for row in rows] == [False, True, None, False]
    assert rows[0]["note"] == "ValueError: a | b c"
    bench.write_report(tmp_path, {"device": "a device", "torch": "2.13"}, rows)
    table = (tmp_path / "accelerator.md").read_text().splitlines()
    assert table[0] == "# a device"
    assert table[2] == "torch 2.13. 1 checks passed, 2 failed, 0 items not run."
    assert table[-4:] == [
        "| parity | first | FAILED | ValueError: a / b c |",
        "| parity | second | passed | error 2e-07 |",
        "| parity | third | measured | ours: ms 1,234 |",
        "| parity | fourth | FAILED | error 1 |",
    ]
    assert json.loads((tmp_path / "accelerator.json").read_text())["rows"] == rows


def test_items_beyond_the_time_limit_are_left_out(bench, tmp_path):
    from accelerator_parts import Item, Result

    bench.run_items("speed", [Item("late", Result)], tmp_path / "rows.json", limit=-1.0)
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["passed"], row["note"]) == (None, "left out: no time")
    bench.write_report(tmp_path, {"device": "a device"}, [row])
    assert "1 items not run" in (tmp_path / "accelerator.md").read_text()


def test_the_limits_of_all_parts_are_eight_minutes(bench):
    assert list(bench.SECONDS) == list(bench.PARTS)
    assert sum(bench.SECONDS.values()) == 480


@pytest.mark.slow
@pytest.mark.posix
def test_the_smoke_form_passes_on_the_cpu(root, tmp_path):
    command = [sys.executable, "bench/accelerator.py", "--smoke", "--device", "cpu", "--threads", "1"]
    done = subprocess.run(
        [*command, "--seconds", "6000", "--out", str(tmp_path)],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "accelerator.json").read_text())["rows"]
    parts = [row["part"] for row in rows if row["passed"]]
    assert set(parts) == {"parity", "precision", "distill", "resume", "processes"}
    speed = [row for row in rows if row["part"] == "speed"]
    assert len(speed) == 4
    assert all(row["numbers"]["plain: relative"] > 0 for row in speed)
