"""Learning rates of parts of the student: offsets, flow network, all others."""

from dataclasses import replace

import pytest
import torch

from workbench.config import Optimizer
from workbench.errors import ConfigError
from workbench.models.weights import load, locate, read_tensors
from workbench.models.zoo import build
from workbench.training.trainer import parameter_groups
from workbench.training.worker import prepare_run, work


def rates(name, **settings):
    """Return the factor of each parameter of a network by its name, and the number of groups."""
    network = build(name)
    groups = parameter_groups(network, Optimizer(**settings))
    factors = {id(parameter): group["lr_mult"] for group in groups for parameter in group["params"]}
    names = dict(network.named_parameters())
    assert sum(len(group["params"]) for group in groups) == len(names)
    return {key: factors[id(parameter)] for key, parameter in names.items()}, len(groups)


def test_by_default_the_flow_of_vespcn_has_the_full_rate_and_that_of_basicvsr_a_tenth():
    assert set(rates("vespcn_s")[0].values()) == {1.0}
    factors, groups = rates("basicvsr_s")
    assert {name.startswith("flow."): factor for name, factor in factors.items()} == {True: 0.1, False: 1.0}
    assert groups == 2  # as in checkpoints of runs without flow_lr_mult


def test_the_factor_of_the_flow_network_applies_to_it_alone_and_multiplies():
    factors, _ = rates("vespcn_s", flow_lr_mult=0.25)
    assert {name.startswith("motion."): factor for name, factor in factors.items()} == {True: 0.25, False: 1.0}
    factors, _ = rates("basicvsr_s", offset_lr_mult=0.5, flow_lr_mult=0.25)
    assert {name.startswith("flow."): factor for name, factor in factors.items()} == {True: 0.125, False: 1.0}


def test_at_0_the_flow_network_of_a_run_keeps_its_weights(small, tmp_path):
    student = replace(small.student, flow_weights="pretrained:flow")
    config = replace(small, student=student, steps=2, optimizer=Optimizer(flow_lr_mult=0.0))
    run = prepare_run(tmp_path / "run", config)
    assert work(run) == "finished"
    flow = load(run.weights()).get_submodule("motion").state_dict()
    start, _ = read_tensors(locate("pretrained:flow"))
    assert flow.keys() == start.keys()
    assert all(torch.equal(flow[name], start[name].float()) for name in start)


def test_it_needs_a_student_with_a_flow_network(small, tmp_path):
    config = replace(small, student=replace(small.student, name="vsrnet"), optimizer=Optimizer(flow_lr_mult=0.0))
    with pytest.raises(ConfigError, match=r"optimizer\.flow_lr_mult: want 1, since vsrnet has no flow network"):
        prepare_run(tmp_path / "run", config)
    with pytest.raises(ConfigError, match=r"optimizer\.flow_lr_mult"):
        replace(small, optimizer=Optimizer(flow_lr_mult=-1.0))
