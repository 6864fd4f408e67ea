"""Settings: there and back through JSON, and a sentence for everything that cannot be one."""

import json
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from workbench.config import Data, Network, Optimizer, RunConfig
from workbench.distillation_config import FRAMES_FOR_MEMORY, Distillation, GradientRatios
from workbench.errors import ConfigError
from workbench.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_equal_after_json(preset):
    config = PRESETS[preset]()
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config), "lists became tuples again, at every depth"


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_do_not_train_on_the_validation_clip(preset):
    """The probe clip is another clip than those trained on, or another stretch of frames."""
    data = PRESETS[preset]().data
    name, _, crop = data.validation_clip.partition("[")
    first = int(crop.split(":")[0])
    for clip in data.clips:
        trained, _, part = clip.partition("[")
        assert trained != name or int(part.split(",")[0].split(":")[1].rstrip("]")) <= first


def test_the_smoke_preset_is_two_steps():
    smoke = PRESETS["smoke"]()
    assert smoke.precision == PRESETS["cpu_long"]().precision == "fp32", "the same losses on every machine"
    assert (smoke.steps, smoke.data.batch_size, smoke.distills) == (2, 1, True)


def test_the_paper_preset_has_the_published_settings():
    """Equation 2 without normalization, one ConvLSTM trained until its loss is below 1e-8."""
    wanted = PRESETS["paper"]().distillation
    assert (wanted.attention_kind, wanted.normalization) == ("sum_squares", "none")
    assert (wanted.memory_mode, wanted.freeze_below, wanted.memory_stride) == ("trained_then_frozen", 1e-8, 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_with_a_temporal_loss_have_its_recommended_settings(preset):
    """Seven frames or more, and less than the scale averaged away."""
    config = PRESETS[preset]()
    if config.distillation.uses_temporal:
        assert config.data.num_frames >= FRAMES_FOR_MEMORY
        assert config.distillation.memory_stride <= 2


@pytest.mark.parametrize("weight", [0.0, Distillation().temporal_weight])
def test_a_ratio_replaces_a_weight(weight):
    config = RunConfig(
        teacher=Network(name="edvr_s", weights="w.safetensors"),
        data=Data(num_frames=7),
        distillation=Distillation(spatial_weight=0.0, temporal_weight=weight, ratios=GradientRatios(temporal=0.1)),
    )
    assert config.distills
    assert config.needs_features
    assert config.distillation.uses_temporal
    assert not config.distillation.uses_spatial
    assert config.distillation.ratios.chosen == {"temporal": 0.1}
    output = Distillation(spatial_weight=0.0, temporal_weight=0.0, ratios=GradientRatios(output_l1=0.3))
    assert replace(config, distillation=output).distills
    assert not replace(config, distillation=output).needs_features
    assert output.chosen_losses == {"output_l1": 0.0}
    fitnets = Distillation(spatial_weight=0.0, temporal_weight=0.0, ratios=GradientRatios(fitnets=0.3))
    assert fitnets.reading_features == ["fitnets"]
    assert "fitnets" in fitnets.cache_obstacle


@pytest.mark.parametrize("version", [1, 2])
def test_ratios_of_earlier_runs_are_read(version):
    saved = {"distillation": {"output_ratio": 0.3, "temporal_ratio": 0.1, "spatial_ratio": 0.0}}
    ratios = RunConfig.from_run(saved, version=version).distillation.ratios
    assert ratios == GradientRatios(output_l1=0.3, temporal=0.1)


def test_settings_of_older_versions_are_read():
    """Settings that it could not record are not today's defaults; those that it recorded stay."""
    held = RunConfig.from_run({"distillation": {"memory_stride": 4}}).distillation
    assert (held.standardize, held.cells, held.border_frames, held.memory_stride) == (False, "last", 0, 4)
    today = RunConfig()
    assert RunConfig.from_run(today.to_dict()) == today


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RunConfig().steps = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"stepz": 3}, "no setting 'stepz'; did you mean 'steps'?"),
        ({"data": {"crop_sise": 8}}, "no setting 'data.crop_sise'; did you mean 'data.crop_size'?"),
        ({"data": {"crop": 8}}, "no setting 'data.crop'; did you mean 'data.crop_size'?"),
        ({"distillation": {"spatial_wieght": 1}}, "no setting 'distillation.spatial_wieght'; did you mean"),
        ({"teacher": {"wieghts": ""}}, "no setting 'teacher.wieghts'; did you mean 'teacher.weights'?"),
        (
            {"distillation": {"output_ratio": 1}},
            "no setting 'distillation.output_ratio'; did you mean 'distillation.ratios.output_l1'?",
        ),
        ({"zzz": 3}, "no setting 'zzz'"),
        ({"data": "bikes"}, "data: want a group of settings, got 'bikes'"),
    ],
)
def test_the_error_for_an_unknown_setting_suggests_the_nearest(saved, said):
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_dict(saved)
    assert str(caught.value).startswith(said)


INVALID = [
    ("steps", 0), ("snapshot_every", 0), ("save_every", 0), ("threads", -1), ("data.crop_size", 7),
    ("data.num_frames", 0), ("data.batch_size", 0), ("data.scale", 5), ("data.clips", []), ("student.name", ""),
    ("optimizer.learning_rate", 0), ("distillation.spatial_weight", -1), ("distillation.temporal_weight", -1),
    ("distillation.memory_channels", 0), ("distillation.memory_stride", 0), ("distillation.border_frames", -1),
    ("distillation.ratio_every", 0), ("distillation.ratios.temporal", -0.1), ("precision", "bf61"),
    ("distillation.attention_kind", "mean"), ("distillation.memory_mode", "freezed"),
    ("distillation.cells", "first"), ("distillation.feature_layer", "lr"), ("distillation.schedule", "late"),
    ("optimizer.name", "sgd"), ("steps", "many"), ("steps", 2.5), ("steps", True), ("data.clips", "bikes"),
    ("data.augment", "yes"), ("data.validation_clip", None), ("optimizer.learning_rate", "fast"),
    ("optimizer.learning_rate", float("nan")), ("optimizer.betas", 0.9),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), INVALID)
def test_an_invalid_value_raises(setting, value):
    saved = value
    for name in reversed(setting.split(".")):
        saved = {name: saved}
    with pytest.raises(ConfigError, match=rf"^{re.escape(setting)}: "):
        RunConfig.from_dict(saved)


@pytest.mark.parametrize(
    ("saved", "setting"),
    [
        ({"teacher": {"name": "edvr_s"}}, "teacher.weights"),
        ({"student": {"name": "vespcn", "hr_channels": -1}}, "student.hr_channels"),
        ({"distillation": {"ratios": {"temporal": 0.1}, "temporal_weight": 0.5}}, "distillation.ratios.temporal"),
        ({"distillation": {"ratios": {"spatial": 0.1}, "spatial_weight": 0.5}}, "distillation.ratios.spatial"),
        ({"distillation": {"ratios": {"fitnets": 0.1}, "losses": {"fitnets": 2.0}}}, "distillation.ratios.fitnets"),
        ({"student": {"name": "vespcn", "skip": "cubic"}}, "student.skip"),
    ],
)
def test_settings_that_do_not_fit_together_raise(saved, setting):
    with pytest.raises(ConfigError, match=rf"^{re.escape(setting)}: "):
        RunConfig.from_dict(saved)


def test_an_integer_is_accepted_as_a_float():
    assert RunConfig.from_dict({"stop_after_seconds": 5}).stop_after_seconds == 5


@pytest.mark.parametrize(
    ("teacher", "spatial", "temporal", "distills"),
    [("edvr_s", 1.0, 0.0, True), ("edvr_s", 0.0, 1.0, True), ("edvr_s", 0.0, 0.0, False), ("", 1.0, 1.0, False)],
)
def test_a_run_distills_with_a_teacher_and_a_loss(teacher, spatial, temporal, distills):
    config = RunConfig(
        teacher=Network(name=teacher, weights="w.safetensors"),
        distillation=Distillation(spatial_weight=spatial, temporal_weight=temporal),
    )
    assert config.distills is distills


def test_every_setting_has_a_description():
    """A string stands below each field of a group; forms and the command line show it."""
    import ast
    import inspect

    from workbench import config, distillation_config

    sources = map(inspect.getsource, (config, distillation_config))
    classes = [node for source in sources for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    silent = []
    for cls in classes:
        for field, after in zip(cls.body, [*cls.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign):
                continue
            is_group = isinstance(field.annotation, ast.Name) and is_dataclass(
                getattr(config, field.annotation.id, None)
            )
            explained = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if not (explained or is_group):
                silent.append(f"{cls.name}.{field.target.id}")
    assert silent == []
    assert {cls.name for cls in classes} == {
        "Network", "Data", "OtherLosses", "GradientRatios", "Distillation", "Optimizer", "RunConfig",
    }  # fmt: skip


def test_replace_checks_settings():
    with pytest.raises(ConfigError, match="steps: want 1 or more"):
        replace(RunConfig(), steps=0)
    assert {f.name for f in fields(RunConfig)} >= {"student", "teacher", "data", "distillation", "optimizer"}
    assert (Data().scale, Optimizer().name) == (4, "adam")


def test_flow_weight_needs_data_with_true_flow():
    with pytest.raises(ConfigError, match=r"flow_weight.*0\.1.*stills"):
        RunConfig(flow_weight=0.1)
    assert RunConfig(flow_weight=0.1, data=Data(stills="photos")).flow_weight == 0.1
