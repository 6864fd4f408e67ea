"""Equal updates in one process or two and with micro-batches; trackers; devices and precisions that are missing."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import types
from dataclasses import replace
from itertools import islice

import accelerate.tracking
import pytest
import torch
from accelerate.utils import LoggerType

from tests.training.tiny import TinyNetwork, batches, copies, make_training, numbers
from workbench.config import Optimizer
from workbench.distill.losses import DISTILLATION_LOSSES, make_loss
from workbench.distill.objective import Objective
from workbench.distillation_config import Distillation, GradientRatios, OtherLosses
from workbench.errors import ConfigError
from workbench.models.weights import read_tensors
from workbench.models.zoo import build
from workbench.runs import Run
from workbench.training.accelerator import make_accelerator
from workbench.training.loop import train
from workbench.training.worker import prepare_run, work


def test_micro_batches_make_the_same_update_as_the_whole_batch():
    (whole, *_, steps), (split, *_, split_steps) = make_training(mode="frozen"), make_training(mode="frozen")
    expected = list(islice(steps(), 3))
    micro = ((low[i : i + 1], high[i : i + 1]) for low, high in batches() for i in (0, 1))
    seen = list(
        islice(
            split_steps(islice(micro, 6), accelerator=make_accelerator(device="cpu", gradient_accumulation_steps=2)), 3
        )
    )
    for ours, theirs in zip(seen, expected, strict=True):
        assert ours.terms == pytest.approx(theirs.terms, rel=1e-5)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-4)
    for name, value in split.state_dict().items():
        assert torch.allclose(value, whole.state_dict()[name], atol=1e-6)


def test_a_bf16_accelerator_does_not_change_a_float32_training():
    """accelerate has one state per process. A second training in a notebook needs its own."""
    assert make_accelerator(device="cpu", precision="bf16").mixed_precision == "bf16"
    (_, *_, steps), (_, *_, again) = make_training(), make_training()
    first = numbers(steps(accelerator=make_accelerator(device="cpu")))
    make_accelerator(device="cpu", precision="bf16")
    assert numbers(again(accelerator=make_accelerator(device="cpu"))) == first


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, "bf16"), (30.0, "no")])
def test_auto_chooses_the_faster_precision(monkeypatch, ratio, chosen):
    monkeypatch.setattr("workbench.precision.relative_time", lambda *args: ratio)
    assert make_accelerator(device="cpu", precision="auto").mixed_precision == chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_an_unavailable_device_or_precision_raises():
    with pytest.raises(ConfigError, match=r"device: .*cuda.*cpu"):
        make_accelerator(device="cuda")
    with pytest.raises(ConfigError, match="fp16 needs CUDA"):
        make_accelerator(device="cpu", precision="fp16")


def test_the_average_after_one_step_is_the_student(small, tmp_path):
    steps = []
    config = replace(small, steps=1, optimizer=Optimizer(ema_decay=0.999))
    run = prepare_run(tmp_path / "averaged", config)
    work(run, lambda step, _: steps.append(step))
    before, _ = read_tensors(run.folder / "checkpoints" / "0000000" / "student.safetensors")
    after, _ = read_tensors(run.weights("student"))
    kept, _ = read_tensors(run.weights("average"))
    for name, value in after.items():
        # AveragedModel copies the student at its first update
        assert torch.allclose(kept[name], value)
    assert any(not torch.equal(before[name], after[name]) for name in after)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_every_loss_trains_the_student(name):
    torch.manual_seed(0)
    student, teacher = (build("vespcn_s", scale=2) if name == "flow_l1" else TinyNetwork() for _ in range(2))
    objective = Objective(losses={name: (0.1, make_loss(name, 4, 4))})
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=1e-3)
    before, objective_before = copies(student), copies(objective)
    seen = list(
        train(
            student,
            islice(batches(), 2),
            objective,
            optimizer,
            steps=2,
            initial_lr=1e-3,
            final_lr=1e-3,
            teacher=teacher,
        )
    )
    assert [list(step.terms) for step in seen] == [["reconstruction", name]] * 2
    assert any(not torch.equal(value, before[key]) for key, value in student.state_dict().items())
    assert all(not torch.equal(value, objective_before[key]) for key, value in objective.state_dict().items())


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_the_table_of_losses_has_the_input_of_each(name):
    reads = DISTILLATION_LOSSES[name].metadata["reads"]
    assert make_loss(name, 1, 1).reads == reads
    for one in (Distillation(losses=OtherLosses(**{name: 0.5})), Distillation(ratios=GradientRatios(**{name: 0.5}))):
        assert one.reading_features == ([name] if reads == "features" else [])


def test_a_network_without_features_learns_from_frames(small, tmp_path):
    expected = Distillation(spatial_weight=0, temporal_weight=0, losses=OtherLosses(output_l1=1.0, frequency=0.1))
    config = replace(small, steps=1, student=replace(small.student, name="vespcn_paper"), distillation=expected)
    run = prepare_run(tmp_path / "frames", config)
    assert work(run) == "finished"
    assert set(run.metrics()[0]["terms"]) == {"reconstruction", "output_l1", "frequency"}


def test_gradient_stats_have_every_term_and_pair():
    *_, steps = make_training()
    seen = list(steps(gradient_stats_every=5))
    watched = [step.number for step in seen if any(name.startswith("gradient.") for name in step.diagnostics)]
    assert watched == [5, 10]
    measures = seen[4].diagnostics
    assert {name for name in measures if name.startswith("gradient.")} == {
        "gradient.reconstruction", "gradient.spatial", "gradient.temporal"
    }  # fmt: skip
    cosines = {name: value for name, value in measures.items() if name.startswith("cosine.")}
    assert set(cosines) == {
        "cosine.reconstruction.spatial", "cosine.reconstruction.temporal", "cosine.spatial.temporal"
    }  # fmt: skip
    assert all(-1 <= value <= 1 for value in cosines.values())


def test_gradient_stats_do_not_change_the_training():
    (_, *_, steps), (_, *_, watched) = make_training(), make_training()
    plain, seen = list(steps()), list(watched(gradient_stats_every=2))
    assert [step.terms for step in seen] == [step.terms for step in plain]


def test_two_processes_give_the_losses_and_weights_of_one(small, tmp_path):
    """Ten steps under torchrun with gloo; equal up to rounding."""
    losses = OtherLosses(output_l1=0.5, fitnets=0.1)
    config = replace(
        small,
        steps=10,
        snapshot_every=10,
        save_every=10,
        device="cpu",
        data=replace(small.data, batch_size=2),
        distillation=replace(
            small.distillation, losses=losses, ratios=GradientRatios(temporal=0.3), ratio_every=3, cells="all"
        ),
        gradient_stats_every=5,
    )
    one, two = (prepare_run(tmp_path / name, config) for name in ("one", "two"))
    work(one)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         "-m", "workbench.training.worker", str(two.folder)],
        capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert Run(two.folder).status().state == "finished"
    for ours, theirs in zip(two.metrics(), one.metrics(), strict=True):
        assert ours["terms"] == pytest.approx(theirs["terms"], rel=1e-4)
        assert ours["total"] == pytest.approx(theirs["total"], abs=1e-5)
        assert ours["weights"] == pytest.approx(theirs["weights"], rel=1e-3)
    for number in (1, 3, 6, 9):  # each process measures its half; the mean of the gradients is the whole batch's
        ours, theirs = two.metrics()[number - 1]["ratio.temporal"], one.metrics()[number - 1]["ratio.temporal"]
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert one.metrics()[9]["weights"]["temporal"] > 0
    for name in ("student", "memory"):
        mine, expected = read_tensors(two.weights(name))[0], read_tensors(one.weights(name))[0]
        assert max(float((mine[key].float() - expected[key].float()).abs().max()) for key in expected) < 1e-5


def test_denormal_numbers_are_flushed_to_zero(monkeypatch):
    """1e-39 is below the smallest normal float32."""
    code = (
        "import torch; from workbench.training.torch_setup import configure_torch; configure_torch(1); "
        "print((torch.full((64,), 1e-30) * 1e-9).count_nonzero().item())"
    )
    counts = {}
    for expected in ("0", "1"):
        monkeypatch.setenv("WORKBENCH_FLUSH_DENORMAL", expected)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        counts[expected] = int(done.stdout)
    assert counts == {"0": 64, "1": 0}


def test_a_tracker_logs_every_step_offline(small, tmp_path, monkeypatch):
    """The tracker of accelerate writes to a fake package wandb."""
    logged, begun, finished = [], [], []
    fake = types.ModuleType("wandb")
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    writer = types.SimpleNamespace(
        log=lambda values, step, **_: logged.append((step, values)), finish=lambda: finished.append(True)
    )
    fake.init = lambda **settings: begun.append(settings) or writer
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [LoggerType.WANDB])
    run = prepare_run(tmp_path / "tracked", replace(small, steps=2, trackers=("wandb",)))
    assert work(run) == "finished"
    assert (begun[0]["mode"], begun[0]["name"], begun[0]["dir"]) == ("offline", "tracked", str(run.folder))
    assert [step for step, _ in logged] == [1, 2]
    assert logged[0][1]["terms/spatial"] == run.metrics()[0]["terms"]["spatial"]
    assert logged[0][1]["total"] == run.metrics()[0]["total"]
    assert finished == [True]


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed")
def test_a_tracker_that_is_not_installed_raises_before_the_run(small, tmp_path):
    with pytest.raises(ConfigError, match=r"trackers: .*mlflow.*pip install mlflow"):
        prepare_run(tmp_path / "run", replace(small, trackers=("mlflow",)))
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_raises(small):
    with pytest.raises(ConfigError, match=r"trackers: .*got neptune"):
        replace(small, trackers=("neptune",))
