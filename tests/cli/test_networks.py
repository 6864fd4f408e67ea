import json

import pytest

from workbench.cli import main
from workbench.models.zoo import NETWORKS


def run(capsys, *args):
    """Exit status, stdout, stderr of ``workbench``."""
    status = main([*map(str, args)])
    seen = capsys.readouterr()
    return status, seen.out, seen.err


def test_every_network_is_listed_with_its_exact_count(capsys):
    status, out, _ = run(capsys, "networks", "--no-macs", "--format", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert rows.keys() == NETWORKS.keys()
    assert (rows["edvr_l"]["parameters"], rows["edvr_l"]["frames"], rows["edvr_l"]["year"]) == (20_699_363, 7, 2019)
    assert rows["basicvsr"]["frames"] is None
    assert all(row["paper"] and row["role"] for row in rows.values())


@pytest.mark.parametrize("form", ["text", "md", "json"])
def test_chosen_networks_are_listed_with_their_cost(capsys, form):
    args = ["--only", "vespcn_paper,bicubic", "--time", "--frames", 1, "--rounds", 1, "--threads", 1]
    status, out, err = run(capsys, "networks", *args, "--format", form)
    assert status == 0
    assert "clip of 1 frames" in err
    if form == "json":
        rows = {row["name"]: row for row in json.loads(out)}
        assert rows["vespcn_paper"]["macs"] == 1_474_070_400  # by hand in tests/models/test_cost.py
        assert rows["vespcn_paper"]["seconds_per_frame"] > 0
        assert rows["bicubic"]["macs_alone"] is None
    else:
        assert "108,232" in out
        assert "1.47 G" in out
        assert "edvr" not in out


def test_layers_are_listed_with_shapes(capsys):
    status, out, _ = run(capsys, "networks", "--show", "vespcn_paper")
    assert status == 0
    assert "1x48x120x180" in out
    assert "PixelShuffle" in out
    _, out, _ = run(capsys, "networks", "--show", "vespcn_paper", "--depth", 1, "--format", "json")
    assert [(row["name"], row["parameters"]) for row in json.loads(out)] == [
        ("", 108_232), ("motion", 59_392), ("layers", 48_840),
    ]  # fmt: skip


@pytest.mark.parametrize("args", [("--only", "vespnc"), ("--show", "vespnc")])
def test_the_error_for_a_misspelled_name_suggests_the_nearest(capsys, args):
    status, out, err = run(capsys, "networks", *args)
    assert (status, out) == (2, "")
    assert "did you mean 'vespcn'" in err
