"""Weights by gradient-norm ratio: the mean by hand, its bounds, and the objective that uses it."""

import math

import pytest

from workbench.distill.losses import make_loss
from workbench.distill.objective import Objective
from workbench.distill.ratio import LARGEST_CHANGE, GradientRatio
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError


def test_the_first_measurement_sets_the_weight():
    """Norms 2 and 8, ratio 0.1: the weight that makes 0.8 w = 0.1 * 2."""
    ratio = GradientRatio({"spatial": 0.1, "temporal": 0.3})
    assert ratio.weights() == {"spatial": 0.0, "temporal": 0.0}
    ratio.update({"reconstruction": 2.0, "spatial": 8.0, "temporal": 0.5})
    assert ratio.weights() == pytest.approx({"spatial": 0.025, "temporal": 1.2})


def test_the_mean_of_logarithms_by_hand():
    """A weight of 1, then one of 32 asked for: 32 to the power 0.2 is 2."""
    ratio = GradientRatio({"temporal": 0.5})
    ratio.update({"reconstruction": 2.0, "temporal": 1.0})
    ratio.update({"reconstruction": 64.0, "temporal": 1.0})
    assert ratio.weights()["temporal"] == pytest.approx(2.0)


def test_ratios_are_measured_at_the_interval():
    ratio = GradientRatio({"temporal": 0.5}, every=4)
    assert [ratio.is_due(step) for step in (1, 2, 3, 4)] == [True] * 4, "until it was measured"
    ratio.update({"reconstruction": 1.0, "temporal": 1.0})
    assert [step for step in range(1, 13) if ratio.is_due(step)] == [4, 8, 12]


@pytest.mark.parametrize("norm", [0.0, math.inf, math.nan])
def test_zero_and_invalid_norms_do_not_change_the_weight(norm):
    ratio = GradientRatio({"temporal": 0.5, "spatial": 0.5})
    ratio.update({"reconstruction": 1.0, "temporal": norm, "spatial": 1.0})
    assert ratio.weights() == pytest.approx({"temporal": 0.0, "spatial": 0.5})
    assert ratio.is_due(2)
    ratio.update({"reconstruction": 1.0, "temporal": 1.0, "spatial": norm})
    ratio.update({"reconstruction": norm, "temporal": 4.0, "spatial": 4.0})
    assert ratio.weights() == pytest.approx({"temporal": 0.5, "spatial": 0.5})


@pytest.mark.parametrize(("shrinks", "limit"), [(0.1, LARGEST_CHANGE), (10.0, 1 / LARGEST_CHANGE)])
def test_the_weight_of_a_vanishing_gradient_is_bounded(shrinks, limit):
    """A ConvLSTM that is trained can stop reading its input: its gradient on the student then goes to 0."""
    ratio = GradientRatio({"temporal": 0.5})
    for measurement in range(40):
        ratio.update({"reconstruction": 1.0, "temporal": shrinks**measurement})
    assert ratio.weights()["temporal"] == pytest.approx(0.5 * limit, rel=1e-4)


def test_a_loaded_state_continues_exactly():
    ratio, again = (GradientRatio({"temporal": 0.3}) for _ in range(2))
    for norm in (1.0, 3.0, 0.7):
        ratio.update({"reconstruction": 1.3, "temporal": norm})
    again.load_state_dict(ratio.state_dict())
    for one in (ratio, again):
        one.update({"reconstruction": 1.1, "temporal": 0.9})
    assert again.weights() == ratio.weights()


def test_the_schedule_multiplies_the_weight():
    objective = Objective(
        ratios={"temporal": 0.5}, spatial_weight=0.2, memory=TemporalMemory(4, 4), schedule="warm_up", schedule_steps=4
    )
    objective.ratio.update({"reconstruction": 2.0, "temporal": 1.0})
    assert [objective.weights_at(step)["temporal"] for step in (1, 2, 4, 9)] == pytest.approx([0.25, 0.5, 1.0, 1.0])
    assert objective.weights_at(9)["spatial"] == 0.2
    assert objective.ratio.weights()["temporal"] == pytest.approx(1.0), "the mean does not see the schedule"


def test_a_ratio_enables_its_term():
    objective = Objective(
        ratios={"spatial": 0.1, "output_l1": 0.2}, losses={"output_l1": (0.0, make_loss("output_l1", 4, 4))}
    )
    assert objective.distills
    assert objective.uses_spatial
    assert objective.weights_at(1) == {"reconstruction": 1.0, "spatial": 0.0, "output_l1": 0.0}
    assert Objective(ratios={"spatial": 0.0}).ratio is None
    assert list(Objective().state_dict()) == [], "nothing to save without ratios"


@pytest.mark.parametrize(("ratios", "names"), [({"output_l1": 0.1}, "output_l1"), ({"temporl": 0.1}, "temporl")])
def test_a_ratio_of_an_unknown_term_raises(ratios, names):
    with pytest.raises(ConfigError, match=f"ratios: .*{names}"):
        Objective(ratios=ratios)


def test_a_temporal_ratio_without_a_memory_raises():
    with pytest.raises(ConfigError, match="TemporalMemory"):
        Objective(ratios={"temporal": 0.1})
