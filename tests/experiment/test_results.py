"""The results file: what is written is read again, and files of format 1 load."""

import json

import pytest

from tests.experiment.scores import SETTINGS, make_results
from workbench.errors import ConfigError, FolderError
from workbench.experiment.results import Results, same_settings
from workbench.experiment.variants import PLAIN


def test_only_common_seeds_are_compared():
    results = make_results()
    del results.scores["sd_w0.001"][1]
    assert results.against("sd_w0.001", PLAIN, "vid4", "psnr_y_db").seeds == 2
    del results.scores["sd_w0.001"][2]
    assert results.against("sd_w0.001", PLAIN, "vid4", "psnr_y_db") is None
    assert results.against("fitnets_w1", PLAIN, "vid4", "psnr_y_db") is None


def test_results_are_read_as_they_were_written(tmp_path):
    results = make_results()
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results
    assert json.loads((tmp_path / "results.json").read_text())["format"] == 2


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": 1}), json.dumps({"format": 9})])
def test_a_file_without_results_raises(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(FolderError, match=r"results\.json"):
        Results.read(path)
    with pytest.raises(FolderError, match=r"none\.json"):
        Results.read(tmp_path / "none.json")


def test_experiments_with_other_settings_are_not_mixed(tmp_path):
    with pytest.raises(ConfigError, match="steps: got 200, expected 100"):
        same_settings(SETTINGS, {**SETTINGS, "steps": 200}, tmp_path)
    same_settings({"steps": 100}, SETTINGS, tmp_path)
