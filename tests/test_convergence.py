"""Validation scores during a training, which `tools/convergence.py` measures."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from workbench.data.datasets.registry import open_set
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.protocols import PROTOCOLS
from workbench.models.weights import load
from workbench.training.worker import prepare_run, work

SPEC = importlib.util.spec_from_file_location("convergence", ROOT / "tools" / "convergence.py")
convergence = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(convergence)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with one clip of nine frames, which moves by 1.5 pixels a frame."""
    folder = tmp_path_factory.mktemp("clips")
    t, y, x = np.mgrid[:9, :112, :128].astype(float)
    waves = [np.sin((x + 1.5 * t) / 3) + np.cos(y / 4), np.sin((x + y) / 5 - t), np.cos((x - 1.5 * t) / 7)]
    frames = (np.stack(waves, axis=-1) * 60 + 128).clip(0, 255).round().astype(np.uint8)
    (folder / "waves").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "waves" / f"{index:03d}.png")
    return folder


def test_the_last_score_is_that_of_a_run_with_the_same_settings(clips, tmp_path):
    out = tmp_path / "scores.json"
    name = "plain+steps=4+data.num_fixed_crops=4+data.moving_share=0.0"
    settings = {"data": clips / "waves", "validation_set": clips, "variants": name, "cache": tmp_path, "out": out}
    convergence.main(**settings, seeds=1, first_seed=2, parts=2)
    (stored,) = json.loads(out.read_text())[convergence.find_variant(name).name].items()
    assert (stored[0], list(stored[1])) == ("2", ["2", "4"])

    shared = convergence.shared_config(
        data=str(clips / "waves"), teacher=convergence.TEACHER, student="vespcn_s", steps=1000
    )
    config = convergence.variant_config(convergence.find_variant(name), shared, 2, tmp_path)
    run = prepare_run(tmp_path / "run", config)
    assert work(run) == "finished"
    report = evaluate(load(run.weights("average")), open_set("folders", clips, scale=4), PROTOCOLS["folders"])
    assert stored[1]["4"] == pytest.approx(report.mean["psnr_y_db"], abs=1e-3)

    convergence.main(**settings | {"variants": "plain+steps=1+data.num_fixed_crops=4"}, parts=1)
    assert len(json.loads(out.read_text())) == 2  # the first one is kept


def test_more_parts_than_steps_are_an_error(clips, tmp_path):
    files = {"data": clips / "waves", "validation_set": clips, "cache": tmp_path, "out": tmp_path / "out.json"}
    with pytest.raises(convergence.ConfigError, match="parts: want 1 to 4"):
        convergence.main(**files, variants="plain+steps=4", parts=5)
