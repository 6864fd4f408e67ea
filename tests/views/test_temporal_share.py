"""Stored temporal share: what the pages read, and that it belongs to the weights that ship."""

import hashlib
import json
from dataclasses import replace

import pytest

from tests import specimens
from tests.visitors import make_services
from workbench.pretrained import HOME, SET, shipped_networks
from workbench.scenes import read_scene
from workbench.views import temporal_share
from workbench.views.studio import Studio
from workbench.views.studio.job_queue import JobQueue
from workbench.views.studio.networks import Networks


def stored(name, checksum, **gains):
    return {
        "network": name,
        "data": "Vid4",
        "protocol": {"degradation": "bi", "scale": 4},
        "provenance": {"method": f"{name}.safetensors (sha256 {checksum})"},
        "temporal_share": {
            "per_frame": {"city": {"number": [8, 25]}, "walk": {"number": [9]}},
            "gain_db": gains,
            "true_minus_copies_db": gains["true"] - gains["copies"],
        },
    }


@pytest.fixture
def shares(tmp_path, monkeypatch):
    """One network whose weights begin with 0123."""
    path = tmp_path / "temporal_share.json"
    report = stored("edvr_s", "0123456789ab", true=0.75, copies=0.5, far=0.7, other=-0.25)
    path.write_text(json.dumps({"format": 2, "scores": [report]}))
    monkeypatch.setattr(temporal_share, "STORED", path)
    return path


def test_the_stored_measurement_is_of_the_weights_that_ship():
    shares = temporal_share.read_shares()
    assert "basicvsr_s" in shares
    assert set(shares) == set(shipped_networks())
    for name, share in shares.items():
        weights = (HOME / f"{name}.safetensors").read_bytes()
        assert share.checksum == hashlib.sha256(weights).hexdigest()[:12], f"{name}: measure it again, docs/networks.md"
        assert share.conditions == "8 frames of Vid4, BI x4"


def test_the_table_has_the_shipped_networks():
    """Neither the flow network nor the ConvLSTMs, whose weights are in the same folder: they enlarge nothing."""
    names = [row["name"] for row in temporal_share.shipped_shares()]
    assert names[:3] == list(SET.values())
    assert sorted(names) == ["basicvsr_s", "edvr_s", "vespcn_output", "vespcn_plain", "vespcn_std"]


def test_the_table_names_the_targets_of_the_students():
    rows = {row["name"]: (row["role"], row["learned"]) for row in temporal_share.shipped_shares()}
    assert rows["vespcn_plain"] == ("plain", "ground truth")
    maps_and_cells = "basicvsr_s's attention maps (spatial) and memory cells (temporal)"
    assert rows["vespcn_std"][1] == f"ground truth; {maps_and_cells}"


def test_pages_have_the_measured_numbers(shares):
    (row,) = [row for row in temporal_share.shipped_shares() if row["name"] == "edvr_s"]
    assert (row["conditions"], row["numbers"]) == ("3 frames of Vid4, BI x4", [0.75, 0.5, -0.25, 0.25])


def test_networks_that_were_not_measured_stay_in_the_list(shares):
    rows = {row["name"]: row["numbers"] for row in Networks(JobQueue(), make_services()).state()["shares"]["rows"]}
    assert set(rows) == set(shipped_networks())
    assert [name for name, numbers in rows.items() if numbers is not None] == ["edvr_s"]


def test_without_a_file_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(temporal_share, "STORED", tmp_path / "none.json")
    assert temporal_share.read_shares() == {}
    assert {row["numbers"] for row in temporal_share.shipped_shares()} == {None}


class TestScene:
    @pytest.fixture
    def scene(self, scene_folder):
        return read_scene(scene_folder)

    def test_networks_are_recognized_by_their_weights(self, scene, shares):
        methods = tuple(
            replace(method, note="pretrained:edvr_s (sha256 0123456789ab)") if method.key == "teacher" else method
            for method in scene.methods
        )
        table = temporal_share.scene_table(replace(scene, methods=methods))
        assert "<th scope='row'>Teacher</th><td>+0.750</td><td>+0.500</td><td>-0.250</td><td>+0.250</td>" in table
        assert table.count(temporal_share.NOT_MEASURED) == 2  # plain and distilled
        assert "3 frames of Vid4" in table
        assert "Bicubic" not in table

    def test_other_weights_are_not_measured(self, scene, shares):
        assert temporal_share.scene_table(scene).startswith("<p>Not measured")

    def test_a_scene_without_networks(self, scene, shares):
        kept = tuple(method for method in scene.methods if method.key in ("low", "high", "bicubic"))
        assert temporal_share.scene_table(replace(scene, methods=kept)) == "<p>No network in this scene.</p>"

    def test_labels_are_escaped(self, scene, shares):
        method = replace(scene.methods[-1], label=specimens.HOSTILE, note="(sha256 0123456789ab)")
        assert specimens.HOSTILE not in temporal_share.scene_table(replace(scene, methods=(method,)))

    def test_the_page_has_the_section(self, scene_folder, shares, tmp_path):
        _, about = Studio(runs=[tmp_path], scenes=[scene_folder.parent]).scene(f"0/{scene_folder.name}")
        assert "<summary>Temporal share</summary><p>Not measured" in about
