"""Small scenes and runs, made once; see ``tests/specimens.py``."""

import shutil
from pathlib import Path

import pytest

from tests import specimens
from tests.views.uploads import QUOTA, SECRET
from tests.visitors import Visitor, make_services
from workbench.views.studio import Studio, launch
from workbench.views.studio.upload_store import UploadStore


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory) -> Path:
    return specimens.make_scene(tmp_path_factory.mktemp("scenes") / "disc")


@pytest.fixture
def run(tmp_path):
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


@pytest.fixture
def store(tmp_path):
    made = UploadStore(QUOTA, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A studio with a run, a scene, and a result of a visitor; a secret file is next to them."""
    home = tmp_path_factory.mktemp("served")
    (home / "secret.txt").write_bytes(SECRET)
    run = specimens.make_run(home / "runs" / "mine")
    specimens.add_rows(run, range(1, 5))
    specimens.add_snapshot(run, 4)
    specimens.write_status(run, "stopped", 4)
    specimens.make_scene(home / "scenes" / "disc", frames=2)
    services = make_services()
    app, url = launch(runs=[home / "runs"], scenes=[home / "scenes"], services=services, quota=QUOTA)
    app.home, app.url, app.visitor = home, url, Visitor(app, url)
    app.result = specimens.make_scene(app.store.new_scene(app.visitor.session), frames=2, title="mine").name
    yield app
    app.close()
    assert not app.store.folder.exists()


@pytest.fixture
def studio(run, scene_folder, tmp_path):
    shipped = tmp_path / "shipped"
    shutil.copytree(scene_folder, shipped / "disc")
    return Studio(runs=[run.folder.parent, tmp_path / "none"], scenes=[scene_folder.parent, shipped])
