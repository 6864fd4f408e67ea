"""Folders of images, and the sets prepared from them."""

import pytest

from tests.data.preparation.prepared import FORMS, small
from tests.footage import write_shots
from workbench.data.preparation.prepare import prepare


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    return write_shots(tmp_path_factory.mktemp("footage") / "shots")


@pytest.fixture(scope="session")
def whole(shots, tmp_path_factory):
    """Form to a folder that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    for form in FORMS:
        prepare([shots], root / form, small(form))
    return root
