import csv
import io
import json
import math
from dataclasses import replace

import pytest

from workbench.errors import UnknownNameError
from workbench.evaluation import tables
from workbench.evaluation.protocols import PROTOCOLS
from workbench.evaluation.scores import Report


def report(clips=("clip_9", "clip_10"), **changes):
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
    return Report(**(settings | changes))


@pytest.mark.parametrize("form", ["text", "md", "latex"])
def test_documents_show_the_same_numbers_and_what_they_mean(form):
    page = " ".join(tables.render(report(), form).replace("\\_", "_").split())
    for cell in ("25.00", "26.00", "25.50", "0.9062", "0.250", "0.000123", "clip_9", "clip_10", "mean", "net on set"):
        assert cell in page, cell
    for word in ("PSNR-Y [dB]", "tOF [px]", "E-warp", "(folders, BI x4)", "mean of the clips' means", "bi, made here"):
        assert word in page, word
    assert "2 frames equal to the truth: infinite, so not in the means of PSNR" in page
    assert "\x1b" not in page


def test_markdown_is_a_table():
    lines = tables.to_markdown([report()]).splitlines()[2:]
    assert len(lines) == 2 + 2 + 1
    assert {line.count("|") for line in lines} == {7}
    assert tables.render(report(), "markdown") == tables.render(report(), "md")


def test_latex_is_a_table():
    page = tables.to_latex([report(network="a_b & 100%")])
    assert r"a\_b \& 100\% on set" in page
    body = page[page.index(r"\toprule") : page.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 2 + 1
    assert {row.count(" & ") for row in rows} == {5}
    assert r"\begin{tabular}{lrrrrr}" in page
    assert page.count("{") == page.count("}")


def test_csv_has_all_decimals_one_header_and_nothing_for_what_is_not_there():
    other = report(network="other", per_frame={c: {"psnr_y_db": [1.5, 2.5]} for c in ("clip_9", "clip_10")})
    rows = list(csv.DictReader(io.StringIO(tables.render([report(), other], "csv"))))
    assert [(row["method"], row["clip"]) for row in rows] == [
        (name, clip) for name in ("net", "other") for clip in ("clip_9", "clip_10", "mean")
    ]
    assert float(rows[0]["psnr_y_db"]) == 25.004
    assert (rows[0]["frames"], rows[0]["equal_frames"], rows[2]["equal_frames"]) == ("2", "1", "2")
    assert rows[3]["tof"] == ""
    assert rows[0]["low"] == "bi, made here"


def test_json_is_what_a_file_of_scores_holds():
    def refuse(word):
        raise AssertionError(word)

    read = json.loads(tables.render([report(), report(network="b")], "json"), parse_constant=refuse)
    assert read["format"] == 2
    assert [one["network"] for one in read["scores"]] == ["net", "b"]
    assert read["scores"][0] == json.loads(json.dumps(report().to_dict()))
    assert read["scores"][0]["metrics"]["tof"]["unit"] == "px"


def test_names_are_shown_as_they_are():
    hostile = report(clips=("[bold]a|b",), network="[red]x")
    text, markdown = tables.render(hostile, "text"), tables.render(hostile, "md")
    assert "[bold]a|b" in text
    assert "[red]x on" in text
    assert "[bold]a\\|b" in markdown


def test_what_is_not_there_is_a_dash():
    one = report(clips=("a",), per_frame={"a": {"psnr_y_db": [math.inf, math.inf], "tof": [math.nan, math.nan]}})
    assert tables.render(one, "text").count(" - ") == 4


def test_parts_of_a_set_and_very_large_sets():
    names = tuple(f"{number:05d}/0001" for number in range(150))
    groups = {name: "slow" if number % 3 else "fast" for number, name in enumerate(names)}
    page = tables.render(report(clips=names, groups=groups), "text")
    assert "00007/0001" not in page
    assert all(word in page for word in ("slow", "fast", "mean", "200", "300"))
    rows = list(csv.DictReader(io.StringIO(tables.render(report(clips=names), "csv"))))
    assert len(rows) == 151


def test_a_part_of_a_set_says_so():
    assert "net on set, 2 clips of it (folders" in tables.render(report(selected=True), "text")
    flat = replace(report(), protocol=replace(PROTOCOLS["folders"], averaging="frames"))
    assert "mean over all frames alike" in tables.render(flat, "md")


def test_a_format_that_is_not_there():
    with pytest.raises(UnknownNameError, match="did you mean 'json'"):
        tables.render(report(), "jsn")
