"""Variants by name, and the settings of their trainings."""

import json
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest

from workbench.cli.experimenting import experiment
from workbench.config import Network, with_settings
from workbench.errors import ConfigError
from workbench.experiment.variants import (
    LOSSES,
    PLAIN,
    cache_config,
    file_name,
    find_variant,
    in_table_order,
    make_variant,
    parse_setting,
    shared_config,
    variant_config,
)
from workbench.settings import flatten

TEACHER = Network(name="basicvsr_s", weights="pretrained:basicvsr_s")
SHARED = shared_config(data="d", teacher=TEACHER, student="vespcn_s", steps=100)
CACHES = Path("c")


@pytest.mark.parametrize(
    "name",
    [
        PLAIN,
        *(f"{loss}_w0.5" for loss in LOSSES),
        *(f"{loss}_r0.1" for loss in LOSSES),
        "output_w2+sd_w0.001+td_w0.03",
        "sd_w0.001+attention_kind=sum_abs",
        "td_w0.03+memory_mode=trained_then_frozen",
    ],
)
def test_every_variant_is_a_training(name):
    """Its name is parsed back into it, and its settings are the shared ones but for those of the distillation."""
    variant = find_variant(name)
    config = variant_config(variant, SHARED, 3, CACHES)
    assert variant.name == name
    assert config.seed == 3
    assert config.distills == (name != PLAIN)
    assert config.teacher_cache_dir == "" or Path(config.teacher_cache_dir).parent == CACHES
    kept = {"seed": 0, "distillation": SHARED.distillation, "teacher_cache_dir": "", "teacher": TEACHER}
    assert replace(config, **kept) == SHARED


@pytest.mark.parametrize(
    ("name", "canonical", "settings"),
    [
        ("sd_w0.010", "sd_w0.01", {"spatial_weight": 0.01, "temporal_weight": 0}),
        ("sd_w1e-05", "sd_w1e-05", {"spatial_weight": 1e-5}),
        ("sd_r0.1", "sd_r0.1", {"ratios.spatial": 0.1, "spatial_weight": 0, "temporal_weight": 0}),
        ("sd_w0.001+output_w2", "output_w2+sd_w0.001", {"spatial_weight": 0.001, "losses.output_l1": 2}),
        (
            "output_r2+td_r0.1",
            "output_r2+td_r0.1",
            {"ratios.output_l1": 2, "ratios.temporal": 0.1, "losses.output_l1": 0},
        ),
        (
            "td_w0.03+standardize=true+memory_stride=2",
            "td_w0.03+memory_stride=2+standardize=true",
            {"temporal_weight": 0.03, "memory_stride": 2, "standardize": True},
        ),
        (
            "fitnets_w0.5+attention_kind=sum_abs",
            "fitnets_w0.5+attention_kind=sum_abs",
            {"losses.fitnets": 0.5, "attention_kind": "sum_abs"},
        ),
        ("squared_mean_r0.1", "squared_mean_r0.1", {"ratios.squared_mean": 0.1, "losses.squared_mean": 0}),
    ],
)
def test_any_point_of_the_grid_has_a_name(name, canonical, settings):
    variant = find_variant(name)
    assert variant.name == canonical
    assert find_variant(canonical) == variant
    wanted = {f"distillation.{setting}": value for setting, value in settings.items()}
    config = variant_config(variant, SHARED, 0)
    assert with_settings(config, wanted) == config


@pytest.mark.parametrize(
    "name",
    ["", "sd", "sd_large", "sd_w0", "sd_w-1", "sd_x1", "sdd_w1", "fitnets_x1", "sd_w1+sd_r1", "plain+sd_w1",
     "plain+cells=all", "plain+sd_w1+steps=3", "plain+steps=0", "plain+stepz=3", "steps=3", "sd_w1+plain",
     "sd_w1+seed=3", "sd_w1+losses.fitnets=1", "sd_w1+cells=all+cells=last", "attention_kind=sum_abs",
     "sd_w1+maping=sum_abs", "sd_w1+attention_kind=sum", "sd_w1+memory_channels=many", "sd_w1+spatial_weight=2"],
)  # fmt: skip
def test_an_invalid_variant_name_raises(name):
    with pytest.raises(ConfigError) as error:
        find_variant(name)
    assert name.rpartition("+")[2].partition("=")[0] in str(error.value)


@pytest.mark.parametrize(
    ("name", "label", "changes"),
    [
        ("plain+steps=4500", "plain: no teacher, steps 4500", {"steps": 4500}),
        (
            "output_r0.1+data.num_fixed_crops=4000+cells=all",
            "output L1 (0.1), all cells, data.num fixed crops 4000",
            {"data.num_fixed_crops": 4000, "distillation.cells": "all"},
        ),
        (
            "sd_w1+flow_weight=0.1+student.flow_weights=pretrained:flow",
            "SD, weight 1, flow weight 0.1, student.flow weights pretrained:flow",
            {"flow_weight": 0.1, "student.flow_weights": "pretrained:flow"},
        ),
    ],
)
def test_a_variant_changes_any_setting(name, label, changes):
    variant, shared = find_variant(name), with_settings(SHARED, {"data.stills": "photos"})
    assert find_variant(variant.name) == variant
    assert variant.label == label
    config = variant_config(variant, shared, 3)
    assert with_settings(config, changes) == config
    assert config.distills == variant.distills == (not name.startswith("plain"))


def test_names_of_files_are_safe_and_distinct():
    names = ["sd_w0.1", "plain+teacher.weights=a/b", "plain+teacher.weights=a b", "plain+teacher.weights=" + "x" * 500,
             "plain+teacher.weights=" + "x" * 501]  # fmt: skip
    made = [file_name(name) for name in names]
    assert made[0] == names[0]
    assert len(set(made)) == len(names)
    assert all(len(name) < 200 and Path(name).name == name and not set(name) & set(":*? /+=") for name in made)


def test_the_error_for_an_unknown_loss_has_the_known_ones():
    with pytest.raises(ConfigError) as error:
        find_variant("sd_w0.01+outputs_w2")
    assert "'outputs_w2'" in str(error.value)
    assert all(loss in str(error.value) for loss in LOSSES)


def test_without_losses_a_variant_is_the_plain_student():
    assert make_variant({}) == find_variant("plain")
    assert variant_config(make_variant({}), SHARED, 0, CACHES).teacher.name == ""


def test_the_order_of_the_tables_does_not_depend_on_the_order_of_the_names():
    alone = ["plain", "plain+steps=9", "output_w2", "sd_w0.01", "sd_w9", "td_r0.3"]
    ordered = [*alone, "output_w2+sd_w0.001", "sd_w0.01+td_w9", "sd_w0.01+td_w9+cells=all"]
    assert in_table_order(ordered[::-1]) == ordered == in_table_order(ordered)


def test_variants_that_need_the_same_teacher_outputs_share_a_cache():
    """A cache per layer, kind of map, normalization and memory; none for whole features or a trained memory."""

    def cache(name, shared=SHARED):
        return variant_config(find_variant(name), shared, 0, CACHES).teacher_cache_dir

    usual = cache("sd_w0.001")
    assert usual
    names = ("td_w0.03", "sd_w0.001+td_w0.03", "output_w0.5", "output_w2+sd_w0.1", "sd_r0.1", "output_r2+td_r0.1")
    assert {cache(name) for name in names} == {usual}
    others = {
        cache(f"sd_w0.001+{setting}")
        for setting in ("feature_layer=hr_pre", "attention_kind=max_squares", "normalization=none")
    }
    assert len(others | {usual}) == 4
    assert cache("plain") == cache("fitnets_w0.01") == cache("td_w0.03+memory_mode=trained") == ""
    crops = [f"{name}+data.num_fixed_crops=4000" for name in ("sd_r0.1", "output_w2")]
    assert len({cache(name) for name in crops}) == 1
    different = ("output_r0.1+data.crop_size=16", "output_r0.1+teacher.weights=a/b", "flow_l1_r0.1", crops[0])
    assert len({usual, *map(cache, different)}) == 5
    assert cache("sd_w0.001+steps=3+optimizer.learning_rate=1e-4") == usual
    assert cache("fitnets_r0.1") == ""
    stills = with_settings(SHARED, {"data.stills": "s"})
    assert cache("sd_w0.001", stills) == ""


@pytest.mark.parametrize("name", ["sd_w0.01", "output_r2", "sd_r0.1+td_r0.1+attention_kind=max_squares"])
def test_a_cache_is_filled_for_every_variant_that_shares_it(name):
    config = variant_config(find_variant(name), SHARED, 0, CACHES)
    filled = cache_config(config)
    assert filled.teacher_cache_dir == config.teacher_cache_dir
    assert (filled.distillation.spatial_weight, filled.distillation.temporal_weight) == (1, 1)
    assert (filled.distillation.ratios.chosen, filled.distillation.losses.chosen) == ({}, {})
    assert filled.distillation.attention_kind == config.distillation.attention_kind


def test_settings_for_all_variants_have_the_type_of_their_field():
    given = ("data.crop_size=24", "data.augment=false", "student.flow_weights=7", "optimizer.betas=[0.8, 0.9]")
    found = dict(map(parse_setting, given))
    config = shared_config(data="d", teacher=TEACHER, student="s", steps=100, changes=found)
    assert (config.data.crop_size, config.data.augment, config.student.flow_weights) == (24, False, "7")
    assert config.optimizer.betas == (0.8, 0.9)


@pytest.mark.parametrize("text", ["data.crop_size", "data.crop_size=big", "data.crop_size=2.5", "data.corp=24"])
def test_invalid_settings_raise(text):
    with pytest.raises(ConfigError):
        shared_config(data="d", teacher=TEACHER, student="s", steps=100, changes=dict([parse_setting(text)]))


def test_the_defaults_are_the_settings_of_the_stored_experiment():
    """Files are recorded as checksums there; their names are compared by hand."""
    stored = json.loads((Path(__file__).parents[2] / "docs/experiment/results.json").read_text())["settings"]
    defaults = signature(experiment).parameters
    config = shared_config(
        data="d", teacher=TEACHER, student=defaults["student"].default, steps=defaults["steps"].default
    )
    files = {"data.clips", "teacher.weights", "student.flow_weights", "validation_set"}
    compared = stored.keys() - files
    assert {name: flatten(config.to_dict())[name] for name in compared} == {name: stored[name] for name in compared}
    assert config.student.flow_weights == "pretrained:flow"
    assert defaults["teacher"].default == TEACHER.weights


def test_another_student_than_the_presets_starts_without_its_flow_network():
    assert shared_config(data="d", teacher=TEACHER, student="fastdvdnet_vsr_s", steps=10).student.flow_weights == ""
