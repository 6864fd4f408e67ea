"""Privileged teacher and its student (PISR) in two runs; settings that raise; commands of the documentation."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny import copies
from workbench.cli import main
from workbench.cli.training import train as train_command
from workbench.config import Data, Network, RunConfig
from workbench.distill.losses import DISTILLATION_LOSSES, make_loss
from workbench.distill.objective import Objective, charbonnier
from workbench.distillation_config import Distillation, OtherLosses
from workbench.errors import ConfigError, WeightsError
from workbench.evaluation.methods import load_method, make_network
from workbench.models.privileged import Privileged, imitation
from workbench.models.weights import load, read_tensors, save
from workbench.models.zoo import build
from workbench.training import worker
from workbench.training.loop import train
from workbench.training.trainer import check
from workbench.training.worker import prepare_run, work

TEACHING = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text()


class RecordingPrivileged(Privileged):
    """Privileged teacher that stores its inputs."""

    def __init__(self, decoder):
        super().__init__(decoder)
        self.inputs = []

    def forward(self, clip, return_features=None):
        self.inputs.append(clip.detach().clone())
        return super().forward(clip, return_features)


def make_student(scale=2):
    return build("vespcn_s", scale=scale, channels=8, hr_channels=4)


def batches(count=2):
    """Return random pairs of low and high resolution."""
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.rand(1, 3, 3, 8, 8, generator=generator), torch.rand(1, 3, 3, 16, 16, generator=generator))
        for _ in range(count)
    ]


def changed_tensors(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def run_loop(network, objective, rows, **more):
    optimizer = torch.optim.Adam([*network.parameters(), *objective.parameters()], lr=1e-3)
    return list(train(network, rows, objective, optimizer, steps=len(rows), initial_lr=1e-3, final_lr=1e-3, **more))


# -- the loop -------------------------------------------------------------------------------------------------------
def test_stage_1_has_the_ground_truth_as_input_and_two_terms():
    torch.manual_seed(0)
    network, rows = RecordingPrivileged(make_student()), batches()
    before = copies(network)
    with torch.no_grad():
        made = network(rows[0][1])
        expected = {
            "reconstruction": charbonnier(made.frames, rows[0][1]).item(),
            "imitation": imitation(made.encoded, rows[0][0]).item(),
        }
    network.inputs.clear()
    steps = run_loop(network, Objective(imitation_weight=0.25), rows)
    assert [torch.equal(given, high) for given, (_, high) in zip(network.inputs, rows, strict=True)] == [True] * 2
    assert steps[0].terms == pytest.approx(expected, rel=1e-5)
    assert steps[0].total == pytest.approx(expected["reconstruction"] + 0.25 * expected["imitation"], rel=1e-5)
    assert {name.partition(".")[0] for name in changed_tensors(network, before)} == {"encoder", "decoder"}


def test_stage_2_updates_the_student_and_not_the_teacher():
    """The input of the teacher is the ground truth. The student starts with the weights of the teacher's decoder."""
    torch.manual_seed(0)
    teacher, student, rows = RecordingPrivileged(make_student()), make_student(), batches()
    student.load_state_dict(teacher.decoder.state_dict())
    teacher_before, student_before = copies(teacher), copies(student)
    objective = Objective(losses={"variational_information": (1e-6, make_loss("variational_information", 4, 4))})
    with torch.no_grad():
        expected = charbonnier(teacher.decoder(rows[0][0]).frames, rows[0][1]).item()
    steps = run_loop(student, objective, rows, teacher=teacher)
    assert [torch.equal(given, high) for given, (_, high) in zip(teacher.inputs, rows, strict=True)] == [True] * 2
    assert steps[0].terms["reconstruction"] == pytest.approx(expected, rel=1e-5)
    assert set(steps[0].terms) == {"reconstruction", "variational_information"}
    assert changed_tensors(teacher, teacher_before) == set()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert "exit.weight" in changed_tensors(student, student_before)


def test_gradient_of_variational_information_reaches_the_student():
    """Its weight is so small that the student above would change without it."""
    torch.manual_seed(0)
    teacher, student, (low, high) = Privileged(make_student()), make_student(), batches()[0]
    objective = Objective(losses={"variational_information": (1.0, make_loss("variational_information", 4, 4))})
    with torch.no_grad():
        theirs = teacher(high, return_features="hr")
    terms, _ = objective.compute_terms(student(low, return_features="hr"), high, theirs)
    terms["variational_information"].backward()
    assert student.widen.weight.grad.any()
    assert all(parameter.grad.any() for parameter in objective.parameters())


# -- two runs -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def stage_1(small, tmp_path_factory):
    config = RunConfig(
        precision="fp32",
        student=Network(name="privileged:vespcn_s"),
        data=small.data,
        steps=2,
        snapshot_every=2,
        save_every=2,
        threads=1,
    )
    run = prepare_run(tmp_path_factory.mktemp("runs") / "truth", config)
    assert work(run) == "finished"
    return run


@pytest.fixture(scope="module")
def stage_2_config(small, stage_1):
    """Settings of stage 2."""
    return RunConfig(
        precision="fp32",
        student=Network(name="vespcn_s", weights=f"decoder:{stage_1.weights()}"),
        teacher=Network(name="privileged:vespcn_s", weights=str(stage_1.weights())),
        data=small.data,
        distillation=Distillation(
            spatial_weight=0.0, temporal_weight=0.0, schedule="constant",
            losses=OtherLosses(variational_information=1e-6),
        ),
        steps=2, snapshot_every=2, save_every=2, threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stage_2(stage_1, stage_2_config):
    run = prepare_run(stage_1.folder.parent / "distilled", stage_2_config)
    assert work(run) == "finished"
    return run


def test_stage_1_logs_both_terms(stage_1):
    rows = stage_1.metrics()
    assert [row["weights"] for row in rows] == [{"reconstruction": 1.0, "imitation": 1e-4}] * 2
    assert all(row["terms"]["imitation"] > 0 for row in rows)
    assert load(stage_1.weights()).privileged


def test_snapshots_of_stage_1_name_the_privileged_teacher(stage_1):
    scene = stage_1.snapshot(2)
    shown = {method.key: method for method in scene.methods}["student"]
    assert shown.label == "Privileged teacher"
    assert shown.note.startswith("step 2; its input is the high resolution")
    assert scene.clip("student").shape == scene.clip("high").shape


def test_stage_2_starts_from_the_decoder(stage_1, stage_2):
    began = read_tensors(stage_2.folder / "checkpoints" / "0000000" / "student.safetensors")[0]
    whole = read_tensors(stage_1.weights())[0]
    assert began.keys() == {name.removeprefix("decoder.") for name in whole if name.startswith("decoder.")}
    assert all(torch.equal(value, whole[f"decoder.{name}"]) for name, value in began.items())
    ended = load(stage_2.weights())
    assert ended.recipe["name"] == "vespcn_s"
    assert any(not torch.equal(value, began[name]) for name, value in ended.state_dict().items())
    assert {row["weights"]["variational_information"] for row in stage_2.metrics()} == {1e-6}
    assert stage_2.record()["weights"]["student"]["sha256"] == stage_2.record()["weights"]["teacher"]["sha256"]


def test_a_privileged_teacher_is_shown_without_scores(stage_2):
    scene = stage_2.snapshot(2)
    shown = {method.key: method for method in scene.methods}
    assert shown["teacher"].label == "Teacher (privileged:vespcn_s): privileged"
    assert "no restoration of the low one; it has no score" in shown["teacher"].note
    assert all(set(curve.series) == {"bicubic", "student"} for curve in scene.curves)
    assert {overlay.method for overlay in scene.overlays} == {"teacher", "student"}
    assert not np.array_equal(scene.clip("teacher"), scene.clip("student"))


def test_a_run_of_a_privileged_teacher_is_no_method(stage_1, stage_2):
    for name in ("truth", "truth@2"):
        with pytest.raises(ConfigError, match=r"privileged:vespcn_s .*teacher"):
            load_method(name, runs=[stage_1.folder.parent])
    assert load_method(str(stage_2.folder)).network.recipe["name"] == "vespcn_s"


def test_commands_reject_a_privileged_teacher_and_write_nothing(stage_1, footage, tmp_path, capsys):
    weights, out = str(stage_1.weights()), tmp_path / "out"
    for command in (
        ["evaluate", "--network", weights, "--protocol", "held_out"],
        ["upscale", str(footage), str(out), "--network", weights],
        ["compare", "--clip", str(footage), "--methods", f"bicubic,{weights}", "--out", str(out)],
    ):
        assert main(command) != 0
        seen = capsys.readouterr()
        error = " ".join(seen.err.split())
        assert "privileged:vespcn_s is a privileged teacher" in error
        assert seen.out == ""
    assert not out.exists()


def test_cached_and_live_losses_of_a_privileged_teacher_are_equal(stage_2_config, tmp_path):
    """The cache has frames in 8 bits, so the losses differ by half a level at most."""
    torch.manual_seed(0)
    teacher = build("privileged:vespcn_s", skip="bicubic")
    with torch.no_grad():
        for layer in teacher.encoder.layers:  # returns every fourth pixel, so that frames fit into 8 bits
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                layer.bias.zero_()
                layer.weight[range(3), range(3), layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
    save(teacher, tmp_path / "teacher.safetensors")
    config = replace(
        stage_2_config,
        teacher=Network(name="privileged:vespcn_s", weights=str(tmp_path / "teacher.safetensors")),
        data=replace(stage_2_config.data, num_fixed_crops=1, augmentations_per_crop=2),
        distillation=replace(stage_2_config.distillation, losses=OtherLosses(output_l1=1.0)),
    )
    losses = []
    for number, cache in enumerate(("", str(tmp_path / "cache"))):
        run = prepare_run(tmp_path / f"run{number}", replace(config, teacher_cache_dir=cache))
        assert work(run) == "finished"
        losses.append([row["terms"]["output_l1"] for row in run.metrics()])
    assert losses[1] == pytest.approx(losses[0], abs=0.5 / 255)


# -- errors before training -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"student": Network(name="privileged:vespcn_s")},
            "student.name: privileged:vespcn_s is privileged and needs no teacher: --teacher.name ''",
        ),
        (
            {"plain": Network(name="privileged:vespcn_s")},
            "plain.name: want no privileged network, whose input is the ground truth, got privileged:vespcn_s",
        ),
        ({"student": Network(name="vespcn_paper")}, "vespcn_paper has no high-resolution features wider than RGB"),
        ({"imitation_weight": -1.0}, "imitation_weight: want 0 or more, got -1"),
    ],
)
def test_settings_that_cannot_work_raise(stage_2_config, change, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(replace(stage_2_config, **change))


def test_losses_of_features_of_a_privileged_teacher_cannot_be_cached(stage_2_config):
    with pytest.raises(ConfigError, match=r"teacher_cache_dir: .*variational_infor"):
        replace(stage_2_config, teacher_cache_dir="cache", data=replace(stage_2_config.data, num_fixed_crops=1))


def test_the_error_for_privileged_weights_names_the_decoder_syntax(stage_1):
    file = str(stage_1.weights())
    with pytest.raises(WeightsError, match=re.escape(f"`decoder:{file}`")):
        make_network(Network(name="vespcn_s", weights=file), 4)


# -- commands of docs/teaching.md -------------------------------------------------------------------------------------
def commands():
    """Return the arguments of every ``workbench train`` in the document."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", TEACHING, flags=re.DOTALL)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    return [line[2:] for line in lines if line[:2] == ["workbench", "train"]]


@pytest.fixture
def settings_of(monkeypatch):
    """Return a function from a command line to its settings; nothing is run."""
    seen = []

    class Stop(Exception):  # noqa: N818
        pass

    def keep(_folder, config, **_options):
        seen.append(config)
        raise Stop

    monkeypatch.setattr(worker, "prepare_run", keep)

    def parse(args):
        with pytest.raises(Stop):
            train_command(args)
        return seen[-1]

    return parse


def test_options_in_the_table_of_losses_select_each_loss(settings_of):
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \| `(--[^`]*)` \|$", TEACHING, flags=re.MULTILINE)
    assert [name for name, _, _ in rows] == list(DISTILLATION_LOSSES) == list(OtherLosses.__dataclass_fields__)
    for name, reads, switch in rows:
        chosen = settings_of(shlex.split(switch)).distillation.losses.chosen
        assert list(chosen) == [name]
        read = "features" if "F^SR" in reads else "flow" if "flow" in reads else "frames"
        assert read == make_loss(name, 4, 4).reads == DISTILLATION_LOSSES[name].metadata["reads"]


def test_commands_of_the_document_have_the_described_settings(settings_of):
    added, instead, alone, ratio, first, second = map(settings_of, commands())
    assert added.distills
    assert added.distillation.uses_spatial
    assert added.distillation.losses.chosen == instead.distillation.losses.chosen == {"output_l1": 1.0}
    assert not instead.needs_features
    assert not alone.distills
    assert ratio.distillation.ratios.chosen == {"spatial": 0.03, "temporal": 0.3}
    assert not first.distills
    assert first.student.name == second.teacher.name == "privileged:vespcn_s"
    assert second.student.weights == f"decoder:{second.teacher.weights}"
    assert second.distillation.losses.chosen == {"variational_information": 1e-6}
    assert not second.distillation.uses_spatial
    assert not second.distillation.uses_temporal
    assert (second.distillation.schedule, second.optimizer.learning_rate) == ("constant", 1e-4)
    check(
        replace(
            first,
            data=Data(
                clips=("carphone[0:12]",), validation_clip="carphone[12:14]", crop_size=8, num_frames=2, batch_size=1
            ),
        )
    )
