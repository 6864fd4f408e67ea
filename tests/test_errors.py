"""Errors are sentences, and old habits (``except KeyError``) still catch them."""

import pytest

from workbench import errors
from workbench.errors import UnknownNameError, WorkbenchError, unknown_name


def test_the_error_for_a_misspelled_name_has_the_nearest_and_all_names():
    said = str(unknown_name("network", "edvr_tyni", ["vespcn", "edvr_tiny"]))
    assert said == "no network 'edvr_tyni'; did you mean 'edvr_tiny'? There are: edvr_tiny, vespcn"


def test_the_error_for_an_unknown_name_has_all_names():
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
def test_errors_are_workbench_errors_and_builtin_ones(kind, builtin):
    error = getattr(errors, kind)
    assert issubclass(error, WorkbenchError)
    assert issubclass(error, builtin)
    assert str(error("what came")) == "what came"


def test_a_key_error_is_not_printed_in_quotes():
    with pytest.raises(KeyError) as caught:
        raise UnknownNameError("no such thing")
    assert str(caught.value) == "no such thing"
