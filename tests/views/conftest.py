"""Small scenes and runs, made once; see ``tests/specimens.py``."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def specimens() -> ModuleType:
    spec = importlib.util.spec_from_file_location("specimens", Path(__file__).parents[1] / "specimens.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def scene_folder(specimens, tmp_path_factory) -> Path:
    return specimens.make_scene(tmp_path_factory.mktemp("scenes") / "disc")


@pytest.fixture
def run(specimens, tmp_path):
    """A run of the user's own, with three snapshots and forty steps."""
    made = specimens.make_run(tmp_path / "runs" / "mine")
    specimens.add_rows(made, range(1, 41))
    for step in (0, 20, 40):
        specimens.add_snapshot(made, step, softness=2 - step / 40)
    specimens.write_status(made, "stopped", 40, reason="asked to")
    return made


@pytest.fixture(scope="session", autouse=True)
def _patience(patient_gradio):
    """Every test here may serve a studio."""
