import csv
import io
import json
import math
from dataclasses import replace

import pytest

from workbench.errors import ConfigError, UnknownNameError
from workbench.evaluation.method_table import format_method_table, method_table
from workbench.evaluation.protocols import PROTOCOLS
from workbench.evaluation.scores import EvaluationResult
from workbench.evaluation.speed import Speed
from workbench.evaluation.tables import format_results
from workbench.models.cost import Cost


def result(clips=("clip_9", "clip_10"), **changes):
    curves = {
        clip: {
            "psnr_y_db": [25.004 + number, math.inf],
            "ssim_y": [0.81234, 1.0],
            "tof": [math.nan, 0.25],
            "warping_error": [math.nan, 0.000123],
        }
        for number, clip in enumerate(clips)
    }
    settings = {
        "protocol": PROTOCOLS["folders"],
        "network": "net",
        "data": "set",
        "low": "bi, made here",
        "numbers": {clip: [0, 1] for clip in clips},
        "sizes": dict.fromkeys(clips, (64, 48)),
        "per_frame": curves,
        "equal": {clip: [False, True] for clip in clips},
    }
    return EvaluationResult(**(settings | changes))


@pytest.mark.parametrize("form", ["text", "md", "latex"])
def test_documents_have_equal_numbers_and_units(form):
    page = " ".join(format_results(result(), form).replace("\\_", "_").split())
    for cell in ("25.00", "26.00", "25.50", "0.9062", "0.250", "0.000123", "clip_9", "clip_10", "mean", "net on set"):
        assert cell in page, cell
    for word in ("PSNR-Y [dB]", "tOF [px]", "E-warp", "(folders, BI x4)", "mean of the clips' means", "bi, made here"):
        assert word in page, word
    assert "2 frames equal to the ground truth: not in the means of PSNR" in page
    assert "\x1b" not in page


def test_markdown_is_a_table():
    lines = format_results(result(), "md").splitlines()[2:]
    assert len(lines) == 2 + 2 + 1
    assert {line.count("|") for line in lines} == {7}
    assert format_results(result(), "markdown") == format_results(result(), "md")


def test_latex_is_a_table():
    page = format_results(result(network="a_b & 100%"), "latex")
    assert r"a\_b \& 100\% on set" in page
    body = page[page.index(r"\toprule") : page.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 2 + 1
    assert {row.count(" & ") for row in rows} == {5}
    assert r"\begin{tabular}{lrrrrr}" in page
    assert page.count("{") == page.count("}")


def test_csv_has_all_decimals_one_header_and_empty_cells():
    other = result(network="other", per_frame={c: {"psnr_y_db": [1.5, 2.5]} for c in ("clip_9", "clip_10")})
    rows = list(csv.DictReader(io.StringIO(format_results([result(), other], "csv"))))
    assert [(row["method"], row["clip"]) for row in rows] == [
        (name, clip) for name in ("net", "other") for clip in ("clip_9", "clip_10", "mean")
    ]
    assert float(rows[0]["psnr_y_db"]) == 25.004
    assert (rows[0]["frames"], rows[0]["equal_frames"], rows[2]["equal_frames"]) == ("2", "1", "2")
    assert rows[3]["tof"] == ""
    assert rows[0]["low"] == "bi, made here"


def test_json_equals_the_file_of_scores():
    def refuse(word):
        raise AssertionError(word)

    read = json.loads(format_results([result(), result(network="b")], "json"), parse_constant=refuse)
    assert read["format"] == 3
    assert [one["network"] for one in read["scores"]] == ["net", "b"]
    assert read["scores"][0] == json.loads(json.dumps(result().to_dict()))
    assert read["scores"][0]["metrics"]["tof"]["unit"] == "px"


def test_names_are_escaped():
    hostile = result(clips=("[bold]a|b",), network="[red]x")
    text, markdown = format_results(hostile, "text"), format_results(hostile, "md")
    assert "[bold]a|b" in text
    assert "[red]x on" in text
    assert "[bold]a\\|b" in markdown


def test_missing_values_are_dashes():
    one = result(clips=("a",), per_frame={"a": {"psnr_y_db": [math.inf, math.inf], "tof": [math.nan, math.nan]}})
    assert format_results(one, "text").count(" - ") == 4


def test_parts_of_a_set_and_very_large_sets():
    names = tuple(f"{number:05d}/0001" for number in range(150))
    groups = {name: "slow" if number % 3 else "fast" for number, name in enumerate(names)}
    page = format_results(result(clips=names, groups=groups), "text")
    assert "00007/0001" not in page
    assert all(word in page for word in ("slow", "fast", "mean", "200", "300"))
    rows = list(csv.DictReader(io.StringIO(format_results(result(clips=names), "csv"))))
    assert len(rows) == 151


def test_a_part_of_a_set_is_labeled():
    assert "net on set, 2 of its clips (folders" in format_results(result(selected=True), "text")
    flat = replace(result(), protocol=replace(PROTOCOLS["folders"], averaging="frames"))
    assert "mean over all frames" in format_results(flat, "md")


def test_an_unknown_format_raises():
    with pytest.raises(UnknownNameError, match="did you mean 'json'"):
        format_results(result(), "jsn")


# -- comparison of many methods -------------------------------------------------------------------------------------

COST = Cost(parameters=1_234_567, macs=18_651_000_000, macs_alone=None, height=120, width=180)
SPEED = Speed(
    seconds_per_frame=0.0123, fastest=0.012, slowest=0.013, peak_bytes=1, frames=4, height=120, width=180, rounds=3,
    device="cpu (test)", threads=1, precision="fp32",
)  # fmt: skip


def scored(name, psnr, ssim, tof=None, clips=("city", "walk")):
    """A report whose clips all have the same known means."""
    curves = {"psnr_y_db": [psnr, psnr], "ssim_y": [ssim, ssim]} | ({"tof": [math.nan, tof]} if tof else {})
    return result(
        clips=clips, network=name, per_frame=dict.fromkeys(clips, curves), equal={c: [False] * 2 for c in clips}
    )


def marks(table, label):
    return [cell.marks for cell in table.rows[label]]


def test_best_and_second_of_each_number_are_marked():
    table = method_table([scored("a", 27.0, 0.80, 0.5), scored("b", 28.0, 0.79, 0.4), scored("c", 26.0, 0.78, 0.3)])
    assert table.methods == ("a", "b", "c")
    assert list(table.rows) == ["city", "walk", "mean", "tOF [px]"]
    for label in ("city", "walk", "mean"):
        assert marks(table, label) == [("second", "best"), ("best", "second"), ("", "")]
    assert marks(table, "tOF [px]") == [("",), ("second",), ("best",)]  # lower is better


def test_equal_printed_numbers_have_equal_marks():
    table = method_table([scored("a", 27.001, 0.8), scored("b", 27.004, 0.7), scored("c", 26.9, 0.6)])
    assert [which[0] for which in marks(table, "mean")] == ["best", "best", "second"]


def test_values_that_are_not_finite_have_no_mark():
    equal = scored("copy", math.inf, 1.0)
    table = method_table([equal, scored("a", 27.0, 0.8)])
    assert [cell.texts[0] for cell in table.rows["mean"]] == ["-", "27.00"]
    assert [which[0] for which in marks(table, "mean")] == ["", "best"]
    assert marks(method_table([scored("alone", 27.0, 0.8)]), "mean") == [("", "")]


def test_costs_are_the_last_rows_with_dashes_if_missing():
    table = method_table([scored("a", 27.0, 0.8), scored("theirs", 28.0, 0.9)], {"a": COST}, {"a": SPEED})
    costs = {label: [cell.texts[0] for cell in table.rows[label]] for label in list(table.rows)[-3:]}
    assert costs == {"parameters": ["1,234,567", "-"], "MACs a frame": ["18.7 G", "-"], "ms a frame": ["12.3", "-"]}
    assert "median of 3 rounds" in table.caption
    assert "180x120 frame of a long clip" in table.caption


def comparison_page(form):
    pair = [scored("a_b", 27.0, 0.8), scored("c", 28.0, 0.7)]
    return format_method_table(method_table(pair, {"a_b": COST}, {"a_b": SPEED}), form)


def test_the_comparison_as_text():
    page = comparison_page("text")
    assert "27.00+ / 0.8000*" in page
    assert "28.00* / 0.7000+" in page
    assert "* best, + second" in page
    assert "\x1b" not in page


def test_the_comparison_as_markdown():
    page = comparison_page("md")
    assert "| mean | <u>27.00</u> / **0.8000** | **28.00** / <u>0.7000</u> |" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}


def test_the_comparison_as_latex():
    page = comparison_page("latex")
    assert r"mean & \underline{27.00} / \textbf{0.8000} & \textbf{28.00} / \underline{0.7000} \\" in page
    assert r" & a\_b & c \\" in page
    assert page.count("{") == page.count("}")


def test_the_comparison_as_csv_and_json():
    rows = list(csv.DictReader(io.StringIO(comparison_page("csv"))))
    assert [(row["method"], row["clip"]) for row in rows] == [
        (m, c) for m in ("a_b", "c") for c in ("city", "walk", "mean")
    ]
    assert (rows[0]["macs"], rows[0]["seconds_per_frame"], rows[3]["macs"]) == ("18651000000", "0.0123", "")
    held = json.loads(comparison_page("json"))
    assert held["methods"][0]["mean"]["psnr_y_db"] == 27.0
    assert held["methods"][1]["speed"] is None
    with pytest.raises(UnknownNameError, match="did you mean 'latex'"):
        format_method_table(method_table([scored("a", 1.0, 0.1)]), "latx")


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "got none"),
        ([scored("a", 1.0, 0.1), scored("a", 2.0, 0.2)], "a method twice: a"),
        ([scored("a", 1.0, 0.1), scored("b", 2.0, 0.2, clips=("city",))], "a and b differ in frames"),
        ([scored("a", 1.0, 0.1), replace(scored("b", 2.0, 0.2), data="other")], "a and b differ in data"),
        (
            [
                scored("a", 1.0, 0.1),
                replace(scored("b", 2.0, 0.2), protocol=PROTOCOLS["folders"].change(crop_border=8)),
            ],
            "a and b differ in protocol",
        ),
    ],
)
def test_incomparable_results_raise(results, message):
    with pytest.raises(ConfigError, match=message):
        method_table(results)
