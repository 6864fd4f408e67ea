"""Load of the machine during a measurement, from made-up CPU times, and the file of measurements."""

import pytest

from workbench.measurements import FORMAT, CpuTimes, load, load_problem, read_cpu_times, store


@pytest.mark.parametrize(
    ("own", "total", "problem"),
    [
        (10.0, 10.5, ""),
        (20.0, 20.5, ""),  # two threads
        (13.0, 20.0, "other processes used 0.7 of 2 cores"),
        (4.0, 6.0, "other processes left this one 0.4 of a core"),  # in a container that does not show the others
    ],
)
def test_a_machine_is_busy_if_others_compute_or_this_process_waits(own, total, problem):
    before = CpuTimes(100.0, 7.0, 1000.0, cores=2)
    after = CpuTimes(110.0, 7.0 + own, 1000.0 + total, cores=2)
    assert load_problem(before, after) == problem


def test_a_process_that_waits_for_a_gpu_needs_no_core():
    assert load_problem(CpuTimes(0, 0, 0, cores=8), CpuTimes(10, 1, 2, cores=8), on_cpu=False) == ""


def test_the_load_of_a_moment_is_not_judged():
    assert load_problem(CpuTimes(0, 0, 0, cores=2), CpuTimes(0.1, 0, 0.1, cores=2)) == ""


def test_another_version_of_the_file_is_kept(tmp_path, monkeypatch):
    """Two versions of the package that share a cache folder do not overwrite the measurements of each other."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    store({"kind": "a"}, {"seconds": 1})
    mine = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    monkeypatch.setattr("workbench.measurements.FORMAT", FORMAT + 1)
    assert load({"kind": "a"}) is None
    store({"kind": "a"}, {"seconds": 2})
    assert load({"kind": "a"}) == {"seconds": 2}
    assert {path: path.read_bytes() for path in mine} == mine


def test_present_times_contain_those_of_this_process():
    before, after = read_cpu_times(), read_cpu_times()
    assert after.wall >= before.wall
    assert after.own >= before.own >= 0
    assert after.cores >= 1
