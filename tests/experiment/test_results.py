"""Scores over seeds, and what may be said of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from workbench.errors import ConfigError, FolderError
from workbench.experiment import perform
from workbench.experiment.report import page, verdict
from workbench.experiment.reproduce import prediction
from workbench.experiment.results import Results, paired, same_conditions
from workbench.experiment.rows import PLAIN, ROWS, base, config_of, filling, find_row

CONDITIONS = {
    "teacher": {"name": "edvr_tiny", "sha256": "0" * 64}, "student": "vespcn_s", "steps": 100, "batch": 4, "frames": 5,
    "crop": 32, "fixed": [600, 4, 0],
}  # fmt: skip


def scores(value):
    mean = {"psnr_y_db": value, "ssim_y": 0.7, "tof": 0.3}
    return {"vid4": {"walk": mean, "mean": mean}}


@pytest.fixture
def results():
    """Plain 24.00, 24.10, 24.20; SD higher by .05, .06, .07; output lower, higher, equal."""
    held = Results(CONDITIONS, references={"bicubic": scores(23.8), "teacher": scores(24.6)})
    for seed, plain in enumerate((24.0, 24.1, 24.2)):
        for row, gain in (("plain", 0.0), ("sd", 0.05 + 0.01 * seed), ("output", 0.1 * (seed - 1))):
            held.scores.setdefault(row, {})[seed] = scores(plain + gain)
    return held


def test_the_interval_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 7))
    found = paired(list(first), list(second))
    wanted = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.seeds == 7


def test_by_hand(results):
    """Gains .05, .06, .07: mean .06, deviation .01, and t of two degrees of freedom is 4.3027."""
    found = results.against("sd", PLAIN, "vid4", "psnr_y_db")
    assert found.mean == pytest.approx(0.06)
    assert found.half == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert found.measurable
    assert verdict(found) == "better"
    assert verdict(found, higher_is_better=False) == "worse"
    assert verdict(results.against("output", PLAIN, "vid4", "psnr_y_db")) == "no measurable gain"


def test_only_shared_seeds_are_compared(results):
    del results.scores["sd"][1]
    assert results.against("sd", PLAIN, "vid4", "psnr_y_db").seeds == 2
    del results.scores["sd"][2]
    assert results.against("sd", PLAIN, "vid4", "psnr_y_db") is None
    assert verdict(None) == "too few seeds"


def test_too_few():
    with pytest.raises(ConfigError, match="two or more pairs, got 1 and 1"):
        paired([1.0], [2.0])
    with pytest.raises(ConfigError, match="two or more seeds, got 1"):
        prediction([1.0])


def test_one_more_seed_lands_in_the_prediction_nineteen_times_of_twenty():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(4000, 6))
    inside = [low <= row[5] <= high for row in drawn for low, high in [prediction(list(row[:5]))]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_written_and_read_again(results, tmp_path):
    path = tmp_path / "results.json"
    results.write(path)
    again = Results.read(path)
    assert (again.conditions, again.scores, again.references) == (
        results.conditions, results.scores, results.references
    )  # fmt: skip


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": 1}), json.dumps({"format": 9})])
def test_what_is_no_results_file(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(FolderError, match=r"not scores of an experiment|format 9"):
        Results.read(path)
    with pytest.raises(FolderError, match="workbench experiment` makes it"):
        Results.read(tmp_path / "none.json")


def test_experiments_are_not_mixed(tmp_path):
    with pytest.raises(ConfigError, match=r"steps: 100, wanted 200\); name another folder"):
        same_conditions(CONDITIONS, {**CONDITIONS, "steps": 200}, tmp_path)


def test_the_page_says_what_was_and_was_not_run(results):
    told = page(results)
    assert "| SD, weight 0.001 | 24.16 ± 0.110 | +0.060 [+0.035, +0.085] | 3 | 12% | better | 0.7000 ± 0.0000 |" in told
    assert "| output L1, weight 0.5 | 24.10 ± 0.200 | +0.000 [-0.248, +0.248] | 3 | 0% | no measurable gain |" in told
    assert "| bicubic | 23.80 |" in told
    missing = told.rpartition("Not run: ")[2].removesuffix(".").split("; ")
    assert {"TD, weight 0.03", "SD, weight 0.001, + TD, weight 0.03"} < set(missing)
    assert not {"SD, weight 0.001", "output L1, weight 0.5", "plain: no teacher"} & set(missing)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_run(name):
    """All settings exist and can be; equal but for what the row changes."""
    shared = base(
        data="d", teacher="edvr_tiny", teacher_weights="pretrained:edvr_tiny", student="vespcn_s", steps=100, cache="c"
    )
    config = config_of(find_row(name), shared, 3)
    assert config.seed == 3
    assert config.data == shared.data
    assert config.optimizer == shared.optimizer
    assert config.distils == (name != PLAIN)
    assert not config.teacher_cache_dir or config.teacher_cache_dir.startswith("c/")


def test_rows_share_what_the_teacher_says_where_they_ask_the_same():
    """A cache a tap, a mapping, a normalisation, a memory; none for whole features and for a memory that learns."""
    shared = base(data="d", teacher="t", teacher_weights="w", student="s", steps=100, cache="c")
    caches = {name: config_of(row, shared, 0).teacher_cache_dir for name, row in ROWS.items()}
    usual = "c/hr-sr-sum_squares-unit-8-4-0"
    assert {caches[name] for name in ("sd", "td", "std", "output", "output_sd", "sd_small", "td_large")} == {usual}
    assert caches["sd_before"] == "c/hr_pre-sr-sum_squares-unit-8-4-0"
    assert caches["sd_max"] == "c/hr-sr-max_squares-unit-8-4-0"
    assert (caches["plain"], caches["fitnets"]) == ("", "")
    for row in (find_row("sd"), find_row("output"), find_row("sd_max")):
        config = config_of(row, shared, 0)
        full = filling(config).distillation
        assert (full.spatial_weight, full.temporal_weight, full.attention_kind) == (
            1,
            1,
            config.distillation.attention_kind,
        )


@pytest.mark.parametrize(("references", "scored"), [(True, 2), (False, 0)])
def test_bicubic_and_the_teacher_are_scored_where_they_are_asked_for(tmp_path, monkeypatch, references, scored):
    """To reproduce one row they are not needed, and the teacher takes minutes."""
    asked = []
    monkeypatch.setattr(perform, "sets_of", lambda *_: {"validation": None})
    monkeypatch.setattr(perform, "conditions", lambda _: {"steps": 1})
    monkeypatch.setattr(perform, "scores_of", lambda network, sets, **_: asked.append(sets) or {})
    shared = base(
        data="d", teacher="edvr_s", teacher_weights="pretrained:edvr_s", student="vespcn_s", steps=1, cache=""
    )
    perform.perform([], [], replace(shared, threads=1), tmp_path, references=references)
    assert len(asked) == scored
