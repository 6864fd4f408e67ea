"""Errors are sentences, and old habits (``except KeyError``) still catch them."""

import pytest

from workbench import errors
from workbench.errors import UnknownNameError, WorkbenchError, unknown_name


def test_a_misspelt_name_is_told_the_nearest_and_all_there_are():
    said = str(unknown_name("network", "edvr_tyni", ["vespcn", "edvr_tiny"]))
    assert said == "no network 'edvr_tyni'; did you mean 'edvr_tiny'? There are: edvr_tiny, vespcn"


def test_a_name_unlike_any_is_told_what_there_is():
    assert str(unknown_name("preset", "xyz", ["smoke", "cpu"])) == "no preset 'xyz'. There are: cpu, smoke"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("ShapeError", ValueError),
        ("ConfigError", ValueError),
        ("VideoError", ValueError),
        ("DataError", ValueError),
        ("FolderError", ValueError),
        ("WeightsError", ValueError),
        ("BusyError", RuntimeError),
        ("UnknownNameError", KeyError),
    ],
)
def test_every_error_is_ours_and_an_ordinary_one(kind, builtin):
    error = getattr(errors, kind)
    assert issubclass(error, WorkbenchError)
    assert issubclass(error, builtin)
    assert str(error("what came")) == "what came"


def test_a_key_error_is_not_printed_in_quotes():
    with pytest.raises(KeyError) as caught:
        raise UnknownNameError("no such thing")
    assert str(caught.value) == "no such thing"
