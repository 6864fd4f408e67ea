"""Tables, verdicts and comparisons with stored results, by hand."""

import pytest

from tests.experiment.scores import make_results
from workbench.experiment.comparisons import Difference, detectable_difference
from workbench.experiment.report import by_motion, by_neighbors, page, per_clip, reproduction, table, verdict


def test_a_verdict_depends_on_the_interval():
    assert verdict(Difference(0.06, 0.01, 3)) == "better"
    assert verdict(Difference(0.06, 0.01, 3), higher_is_better=False) == "worse"
    assert verdict(Difference(0.0, 0.1, 3)) == "no measurable gain"
    assert verdict(None) == "too few seeds"


def test_a_table_has_the_gap_closed_in_percent():
    """SD: 0.06 of the 0.5 dB between plain (24.1) and the teacher (24.6)."""
    lines = table(make_results(), "vid4").splitlines()
    sd = "| SD, weight 0.001 | 24.16 ± 0.110 | +0.060 [+0.035, +0.085] | 3 | 12% | better | 0.7000 ± 0.0000 |"
    assert any(line.startswith(sd) for line in lines)
    output = "| output L1, weight 0.5 | 24.10 ± 0.200 | +0.000 [-0.248, +0.248] | 3 | 0% | no measurable gain |"
    assert any(line.startswith(output) for line in lines)
    assert lines[2].startswith("| bicubic | 23.80 |")


def test_a_table_states_the_detectable_difference():
    """Deviations .01 and .1 with two degrees of freedom each: pooled, the root of (.0001 + .01) / 2."""
    deviation = ((0.01**2 + 0.1**2) / 2) ** 0.5
    line = table(make_results(), "vid4").splitlines()[-1]
    assert f"{detectable_difference(deviation, 3):.3f} dB with 3 seeds" in line
    assert f"{deviation:.3f} dB" in line


def with_clips(results):
    """Give every score two clips, .1 below and above the mean, and the gain of SD to the second clip alone."""

    def clips(value, gain=0.0):
        parts = {"slow": value - 0.1 - gain, "fast": value + 0.1 + gain, "mean": value}
        return {"vid4": {name: {"psnr_y_db": one, "ssim_y": 0.7} for name, one in parts.items()}}

    for name, seeds in results.scores.items():
        for seed, sets in seeds.items():
            value = sets["vid4"]["mean"]["psnr_y_db"]
            seeds[seed] = clips(value, 0.05 + 0.01 * seed if name == "sd_w0.001" else 0.0)
    results.references = {name: clips(sets["vid4"]["mean"]["psnr_y_db"]) for name, sets in results.references.items()}
    return results


def test_a_table_has_an_interval_over_clips_and_seeds():
    """SD gains 0 on one clip, .10 to .14 on the other; the teacher leads by .6, .5 and .4 on both."""
    lines = table(with_clips(make_results()), "vid4").splitlines()
    assert "| over clips and seeds |" in lines[0]
    row = next(line for line in lines if line.startswith("| SD")).split(" | ")
    low, high = map(float, row[3].strip("[]").split(", "))
    assert (low, high) == (pytest.approx(0, abs=0.001), pytest.approx(0.13, abs=0.012))
    percent, interval = row[5].split(" ", 1)
    assert (percent, interval.startswith("[0, ")) == ("12%", True)
    assert 24 <= float(interval[4:-1]) <= 35  # .12 / .5 to .14 / .4
    output = next(line for line in lines if line.startswith("| output")).split(" | ")
    low, high = map(float, output[3].strip("[]").split(", "))
    assert (low, high) == (pytest.approx(-0.1, abs=0.035), pytest.approx(0.1, abs=0.035))


def test_a_gap_that_may_be_none_has_no_interval():
    results = with_clips(make_results())
    for clip in ("slow", "fast"):
        results.references["teacher"]["vid4"][clip]["psnr_y_db"] = 24.15
    row = next(line for line in table(results, "vid4").splitlines() if line.startswith("| SD"))
    assert row.split(" | ")[5] == "12%"


def test_a_single_clip_has_no_interval_over_clips():
    assert "over clips" not in table(make_results(), "vid4")


def test_a_table_has_the_temporal_share_where_it_was_measured():
    results = make_results()
    assert "copies" not in table(results, "vid4")
    for seed, share in enumerate((0.1, 0.2, 0.3)):
        results.scores["sd_w0.001"][seed]["vid4"]["neighbors"] = {"true": 0.8, "copies": 0.8 - share}
    results.references["teacher"]["vid4"]["neighbors"] = {"true": 1.0, "copies": 0.4, "far": 0.1}
    lines = table(results, "vid4").splitlines()
    assert lines[0].endswith("| temporal share [dB] |")
    assert next(line for line in lines if line.startswith("| SD")).endswith("| 0.200 ± 0.100 |")
    assert next(line for line in lines if line.startswith("| teacher")).endswith("| 0.600 |")
    assert next(line for line in lines if line.startswith("| plain")).endswith("|  |")
    assert "neighbors" not in per_clip(results, "vid4")


def test_a_difference_is_split_into_single_frames_and_temporal_share():
    """SD gains .05 with copies in every seed, and loses .1, .2 and .3 of temporal share."""
    results = make_results()
    assert by_neighbors(results, "vid4") == ""
    for seed in range(3):
        plain, ours = results.scores["plain"][seed]["vid4"], results.scores["sd_w0.001"][seed]["vid4"]
        plain["neighbors"] = {"true": 0.9 + seed, "copies": 0.5 + seed}
        ours["neighbors"] = {"true": 0.85 + seed - 0.1 * seed, "copies": 0.55 + seed}
    lines = by_neighbors(results, "vid4").splitlines()
    assert len(lines) == 3  # output L1 has none
    half = 4.303 * 0.1 / 3**0.5
    assert lines[2] == (
        f"| SD, weight 0.001 | +0.050 [+0.050, +0.050] | -0.200 [{-0.2 - half:+.3f}, {-0.2 + half:+.3f}] | 3 |"
    )
    assert by_neighbors(results, "vid4") in page(results)


def test_a_page_has_differences_by_motion():
    """SD gains nothing in the slowest quartile, and .06 with the deviation of its seeds in the fastest."""
    results = make_results()
    assert by_motion(results, "vid4") == ""
    results.references["motion"] = {"vid4": {"motion quartiles": {"1": 0.031, "4": 0.9}}}
    for name, seeds in results.scores.items():
        for seed, sets in seeds.items():
            gain = 0.05 + 0.01 * seed if name == "sd_w0.001" else 0.0
            sets["vid4"]["motion quartiles"] = {"1": 25 + 0.1 * seed, "4": 23 + 0.1 * seed + gain}
    results.references["teacher"]["vid4"]["motion quartiles"] = {"1": 25.1, "4": 23.6}
    lines = by_motion(results, "vid4").splitlines()
    assert lines[0] == "|  | 1: 0.03 px | 4: 0.90 px |"
    assert "| SD, weight 0.001 | +0.000 [+0.000, +0.000] | +0.060 [+0.035, +0.085] |" in lines
    assert lines[-1] == "| teacher | +0.000 | +0.500 |"
    assert by_motion(results, "vid4") in page(results)
    assert "quartiles" not in per_clip(results, "vid4")
    assert results.clips("vid4") == ["walk"]


def test_primary_comparisons_are_adjusted():
    """Two-sided p of SD: t = .06 / (.01 / sqrt 3) = 10.39 with two degrees of freedom: .0091, doubled .018."""
    results = make_results()
    assert "Primary" not in table(results, "vid4")
    line = table(results, "vid4", families={"Primary": ["sd_w0.001", "output_w0.5"]}).splitlines()[-1]
    assert "SD, weight 0.001: p = 0.018, better" in line
    assert "output L1, weight 0.5: p = 1, no measurable gain" in line
    many = table(
        results, "vid4", families={"Primary": ["sd_w0.001", *(f"td_w{weight}" for weight in range(1, 6))]}
    ).splitlines()[-1]
    assert "SD, weight 0.001: p = 0.055, no measurable gain" in many  # six comparisons, five of them still to be made
    assert "TD, weight 1: too few seeds" in many


def test_two_families_are_adjusted_by_themselves():
    lines = table(
        make_results(), "vid4", families={"Primary": ["sd_w0.001"], "Secondary": ["output_w0.5"]}
    ).splitlines()
    assert lines[-3].startswith("Primary comparison with plain: SD, weight 0.001: p = 0.0091, better")
    assert lines[-1].startswith("Secondary comparison with plain: output L1")


def test_a_pair_is_compared_over_its_common_seeds():
    """SD minus plain is .05, .06, .07; t of two degrees of freedom is 4.303: .06 -+ 4.303 * .01 / sqrt 3."""
    pairs = [("sd_w0.001", "plain"), ("plain", "sd_w0.001"), ("sd_w0.001", "td_w1")]
    lines = table(make_results(), "vid4", pairs=pairs).splitlines()
    assert "SD, weight 0.001, against plain: no teacher: +0.060 [+0.035, +0.085] dB over 3 seeds: better." in lines
    assert lines[-1].endswith("-0.060 [-0.085, -0.035] dB over 3 seeds: worse.")
    assert "over clips and seeds: better" in table(with_clips(make_results()), "vid4", pairs=pairs)


def test_a_page_names_changed_settings():
    assert "Changed" not in page(make_results())
    assert "Changed for all variants: data.stills_share 0.25." in page(make_results(**{"data.stills_share": 0.25}))


def test_clips_have_means_over_seeds():
    lines = per_clip(make_results(), "vid4").splitlines()
    assert lines[0] == "|  | walk | mean |"
    assert lines[2] == "| bicubic | 23.80 / 0.7000 | 23.80 / 0.7000 |"
    assert "| SD, weight 0.001 | 24.16 / 0.7000 | 24.16 / 0.7000 |" in lines


@pytest.mark.parametrize(("change", "inside"), [(0.0, True), (0.0015, True), (0.01, False)])
def test_a_reproduced_seed_is_equal_up_to_rounding(change, inside):
    ours = make_results(steps=100)
    ours.scores = {"sd_w0.001": {1: ours.scores["sd_w0.001"][1]}}
    mean = ours.scores["sd_w0.001"][1]["vid4"]["mean"]
    ours.scores["sd_w0.001"][1]["vid4"] = {"mean": mean | {"psnr_y_db": mean["psnr_y_db"] + change}}
    lines, met = reproduction(ours, make_results())
    assert met == inside
    assert len(lines) == 1
    assert ("OUTSIDE" in lines[0]) != inside


@pytest.mark.parametrize(("value", "inside"), [(24.2, True), (25.0, False)])
def test_another_seed_is_inside_the_prediction_interval(value, inside):
    """24.05, 24.16, 24.27: mean 24.16, deviation .11, so 24.16 +- 4.3027 * .11 * sqrt(4 / 3) = [23.61, 24.71]."""
    ours = make_results()
    ours.scores = {"sd_w0.001": {7: {"vid4": {"mean": {"psnr_y_db": value}}}}}
    lines, met = reproduction(ours, make_results())
    assert met == inside
    assert "[23.613, 24.707]" in lines[0]


def test_settings_that_differ_are_named():
    lines, _ = reproduction(make_results(steps=200), make_results())
    assert lines[0] == "note: steps: got 200, expected 100"
