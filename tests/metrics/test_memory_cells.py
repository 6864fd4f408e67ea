import numpy as np
import pytest

from workbench.metrics.memory_cells import cell_deviation, collapse_index


def test_by_hand():
    cells = np.array([[[1.0, 3.0]]])
    assert cell_deviation(cells) == 1
    assert collapse_index(cells) == pytest.approx(1 / 5**0.5)


def test_the_index_does_not_depend_on_the_magnitude():
    cells = np.random.default_rng(0).normal(0.3, 1, (4, 5, 6, 7)).astype(np.float32)
    assert collapse_index(100 * cells) == pytest.approx(collapse_index(cells), rel=1e-5)
    assert cell_deviation(100 * cells) == pytest.approx(100 * cell_deviation(cells), rel=1e-5)


def test_the_mean_of_a_channel_is_no_variation():
    cells = np.broadcast_to(np.array([1.0, -1.0])[:, None, None], (2, 4, 4))
    assert collapse_index(cells) == 0


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_the_index_of_zeros_and_of_nan_is_undefined(value):
    assert collapse_index(np.full((2, 3, 3), value)) is None
