"""Runs page: table of the runs, details, and two runs side by side."""

import json
import shutil

import pytest

from tests import specimens
from workbench.errors import FolderError
from workbench.runs import RunWriter
from workbench.views.progress import MetricsLog
from workbench.views.studio import Studio
from workbench.views.studio.runs import Runs


@pytest.fixture
def board(run, tmp_path):
    other = specimens.make_run(tmp_path / "runs" / "other", steps=50, distills=False)
    specimens.add_rows(other, range(1, 11), distills=False)
    specimens.write_status(other, "finished", 50)
    return Runs(Studio(runs=[run.folder.parent, tmp_path / "shipped"], scenes=[]))


def by_name(rows):
    return {row["name"]: row for row in rows}


def test_a_row_contains_state_networks_and_score(board):
    rows = by_name(board.rows())
    mine = rows["mine"]
    assert (mine["title"], mine["step"], mine["steps"], mine["networks"]) == ("Stopped", 40, 1000, "edvr_s → vespcn")
    assert mine["score"].endswith(" dB")
    assert rows["other"]["networks"] == "vespcn, no teacher"
    assert rows["other"]["score"] == ""


def test_the_score_is_the_mean_of_the_newest_snapshot(board, run):
    scene = json.loads((run.folder / "snapshots" / "0000040" / "scene.json").read_text())
    values = next(c for c in scene["curves"] if c["key"] == "psnr_y_db")["series"]["student"]
    assert by_name(board.rows())["mine"]["score"] == f"{sum(values) / len(values):.2f} dB"


def test_live_runs_come_first(board, run):
    other = board.studio.run("0/other")
    writer = RunWriter(other.folder)
    specimens.write_status(other, "running", 10)
    assert board.rows()[0]["name"] == "other"
    assert board.rows()[0]["left"] == "8 min 15 s"  # 990 steps of half a second
    writer.close()


def test_a_broken_run_is_marked_and_the_others_are_shown(board, run):
    (run.folder / "run.json").write_text("{")
    rows = by_name(board.rows())
    assert rows["mine"]["title"] == "Not readable"
    assert rows["other"]["title"] == "Finished"
    detail = board.compare(["0/mine", "0/other"])
    assert "not readable" in detail["lines"][0][1]


def test_the_different_settings_of_two_runs(board):
    seen = board.compare(["0/mine", "0/other"])
    names = [line[0] for line in seen["lines"]]
    assert names == ["teacher.name", "teacher.weights", "steps"]
    assert seen["lines"][0][1:] == ["edvr_s", "none"]
    mine, other = seen["compared"]
    assert mine["terms"].keys() == {"reconstruction", "spatial", "temporal"}
    assert (mine["snapshots"], other["snapshots"]) == ([0, 20, 40], [])
    assert other["terms"].keys() == {"reconstruction"}
    assert mine["weights"] == {"reconstruction": 1.0, "spatial": 0.001, "temporal": 0.03}


def test_terms_are_unweighted(board, run):
    mine = board.compare(["0/mine"])["compared"][0]
    rows = run.metrics()
    assert mine["steps"] == [row["step"] for row in rows]
    for name, values in mine["terms"].items():
        assert values == pytest.approx([row["terms"][name] for row in rows], rel=1e-4)


def progress_of(compared):
    """Return the values of the first run by their labels."""
    return {label: value for label, _, value in compared["compared"][0]["progress"]}


def test_throughput_data_wait_and_memory(run, tmp_path):
    path = run.folder / "metrics.jsonl"
    rows = [
        specimens.row(step) | {"seconds": 0.5, "data_time": 0.1, "peak_memory_mib": 900 + step}
        for step in range(41, 101)
    ]
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    progress = progress_of(Runs(Studio(runs=[run.folder.parent], scenes=[])).compare(["0/mine"]))
    assert progress["Throughput"] == "2.00 steps/s"
    assert progress["Data wait"] == "20.0 %"
    assert progress["Peak memory"] == "0.98 GiB"
    assert progress["Time left"] == ""


def test_a_run_of_format_1_is_compared_under_todays_names(board, run):
    record = json.loads((run.folder / "run.json").read_text())
    record["config"]["data"]["crop"] = record["config"]["data"].pop("crop_size") + 8
    (run.folder / "run.json").write_text(json.dumps(record | {"format": 1}))
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["terms"]["output"], row["waited"] = 0.5, row["seconds"] / 4
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = board.compare(["0/mine", "0/other"])
    assert "data.crop_size" in [line[0] for line in seen["lines"]]
    assert "output_l1" in seen["compared"][0]["terms"]
    assert progress_of(seen)["Data wait"] == "25.0 %"


def test_cosines_that_are_recorded_at_some_steps(run):
    row = {
        "step": 41,
        "terms": {"reconstruction": 0.1},
        "weights": {},
        "cosine.a.b": -0.5,
        "gradient.a": 2.0,
        "note": "x",
    }
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    log = MetricsLog(run.folder / "metrics.jsonl").read()
    assert log.diagnostics["cosine.a.b"] == [None] * 40 + [-0.5]
    assert log.diagnostics["gradient_norm"][-1] is None
    assert "note" not in log.diagnostics
    measures = Runs(Studio(runs=[run.folder.parent], scenes=[])).compare(["0/mine"])["compared"][0]["measures"]
    assert measures.keys() == {"gradient_norm", "cosine.a.b", "gradient.a"}


@pytest.mark.parametrize(
    "keys", [None, [], ["0/mine"] * 3, "0/mine", ["0/nothing"], ["../mine"], [7], [{}], ["9/mine"], {"0/mine": 1}]
)
def test_other_names_are_refused(board, keys):
    with pytest.raises(FolderError):
        board.compare(keys)


def test_a_damaged_log_is_reported(board, run):
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write("nonsense\n")
    assert "line 41" in board.compare(["0/mine"])["compared"][0]["message"]


class TestSideBySide:
    """Two lenses at one step."""

    KEYS = ("0/mine", "0/other")

    @pytest.fixture
    def both(self, board):
        for step in (0, 15, 30):
            specimens.add_snapshot(board.studio.run("0/other"), step)
        return board

    def test_the_first_step_is_the_last_one_that_both_have_reached(self, both):
        mine, other = both.side_by_side(self.KEYS, None, [{}, {}])
        assert (mine["at"], mine["all"]) == (20, [0, 20, 40])  # equally near to 20 and 40: the earlier one
        assert (other["at"], other["all"]) == (30, [0, 15, 30])
        assert other["value"]["id"] == "other-30"
        assert "link" not in other["value"]  # side by side, the lenses do not change the address of the page

    def test_each_run_is_shown_at_its_nearest_snapshot(self, both):
        for step, nearest in ((18, [20, 15]), (5, [0, 0]), (10**30, [40, 30])):
            assert [side["at"] for side in both.side_by_side(self.KEYS, step, [{}, {}])] == nearest

    def test_only_changes_are_sent(self, both):
        before = both.side_by_side(self.KEYS, 20, [{}, {}])
        assert [side["value"] is None for side in both.side_by_side(self.KEYS, 20, before)] == [True, True]
        assert [side["value"] is None for side in both.side_by_side(self.KEYS, 25, before)] == [True, False]
        assert all(side["value"] for side in both.side_by_side(self.KEYS[::-1], 20, before))
        specimens.add_snapshot(both.studio.run("0/other"), 21)
        _, other = both.side_by_side(self.KEYS, 20, before)
        assert (other["at"], other["value"]["id"]) == (21, "other-21")

    def test_a_run_without_snapshots_is_reported(self, board):
        mine, other = board.side_by_side(self.KEYS, None, [{}, {}])
        assert (mine["at"], other["at"]) == (40, None)
        assert other["value"]["message"].startswith("other has no snapshot")
        assert board.side_by_side(self.KEYS, None, [mine, other])[1]["value"] is None

    def test_a_run_that_is_deleted_while_it_is_shown(self, both, run):
        before = both.side_by_side(self.KEYS, 20, [{}, {}])
        shutil.rmtree(run.folder)
        mine, other = both.side_by_side(self.KEYS, 20, before)
        assert "no run 'mine' here any more" in mine["value"]["message"]
        assert other["value"] is None
