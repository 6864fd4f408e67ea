"""Page Compare of the studio, its tables, and a studio without folders."""

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from tests import specimens
from tests.visitors import make_services
from workbench.scenes import read_scene
from workbench.views import scene_tables
from workbench.views.studio import build_studio
from workbench.views.studio.folders import FIRST_SCENE, Studio


class TestCompare:
    def test_titles_and_marks_of_shipped_scenes(self, studio):
        assert studio.scene_choices() == [
            ("Disc over a grating", "0/disc"),
            ("Disc over a grating · shipped", "1/disc"),
        ]

    def test_the_scene_with_the_clearest_difference_is_the_first_shipped_one(self, tmp_path):
        for name in ("bunny", FIRST_SCENE, "sign"):
            specimens.make_scene(tmp_path / name, frames=1)
        studio = Studio(runs=[], scenes=[tmp_path / "none", tmp_path])
        assert [value for _, value in studio.scene_choices()] == [f"1/{FIRST_SCENE}", "1/bunny", "1/sign"]

    def test_a_scene_and_its_tables(self, studio):
        value, about = studio.scene("0/disc")
        assert value["frame_count"] == 8
        assert value["methods"][0]["image_folder"].startswith("lens/scene/0/disc/")
        assert "Gap closed" in about
        assert "★" in about

    def test_texts_of_a_folder_are_escaped(self, studio):
        _, about = studio.scene("0/disc")
        assert specimens.HOSTILE not in about
        assert "&lt;b&gt;not bold&lt;/b&gt;" in about

    @pytest.mark.parametrize("choice", ["0/nothing", "9/disc", "disc", "0/../disc", "../0/disc", "0/"])
    def test_other_names_are_refused(self, studio, choice):
        value, about = studio.scene(choice)
        assert set(value) == {"message"}
        assert value["message"]
        assert about == ""

    def test_without_scenes_the_page_names_the_command(self, studio):
        assert "workbench compare" in studio.scene(None)[0]["message"]

    def test_a_partial_scene_is_reported(self, studio, scene_folder, tmp_path):
        broken = tmp_path / "shipped" / "broken"
        broken.mkdir()
        (broken / "scene.json").write_text('{"format": 1, "name": "bro')
        assert ("broken (not readable) · shipped", "1/broken") in studio.scene_choices()
        assert "not a readable scene" in studio.scene("1/broken")[0]["message"]


class TestSceneTables:
    def test_means_leave_out_what_does_not_exist(self, scene_folder):
        scene = read_scene(scene_folder)
        curve = next(curve for curve in scene.curves if curve.key == "t_diff")
        values = [value for value in curve.series["plain"] if value is not None]
        assert len(values) == scene.frames - 1
        assert scene_tables.mean_scores(scene)["t_diff"]["plain"] == pytest.approx(sum(values) / len(values))

    def test_the_best_is_the_lowest_where_lower_is_better(self, scene_folder):
        table = scene_tables.scores_table(read_scene(scene_folder))
        assert table.count("★") == 1 + 4  # the caption, and one in each column

    def test_no_best_score_where_the_gap_closed_is_negative(self, scene_folder):
        scene = read_scene(scene_folder)
        series = {"plain": [30.0], "distilled": [29.0], "teacher": [31.0]}
        table = scene_tables.scores_table(replace(scene, curves=(replace(scene.curves[0], series=series),)))
        assert "<td>-100 %</td>" in table
        assert "★" not in table

    def test_names_of_methods_and_the_size_stay_as_they_are(self, scene_folder):
        scene = read_scene(scene_folder)
        method = replace(scene.methods[0], label="Student (vespcn_s)", note="<b>")
        about = scene_tables.scene_tables(
            replace(scene, methods=(method,), provenance={"clip": "clip_1.mp4", "versions": {"torch": "2"}})
        )
        assert "<dt>Student (vespcn_s)</dt><dd>&lt;b&gt;</dd>" in about
        assert "<dd>clip_1.mp4</dd>" in about
        assert "<dt>made with · torch</dt><dd>2</dd>" in about
        assert f"<dd>8 frames of {scene.width} x {scene.height}" in about


def test_a_studio_without_folders_builds(tmp_path: Path):
    app = build_studio(runs=[tmp_path / "runs"], scenes=[tmp_path / "scenes"], services=make_services())
    assert isinstance(app, gr.Blocks)
    assert [name for _, name, _ in app.pages] == ["Home", "Run", "Train", "Runs", "Your video", "Networks"]
    assert not app.analytics_enabled
