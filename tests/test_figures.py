"""Figures in texts are those of the stored scores: ``tools/figures.py`` finds nothing to change."""

import importlib.util
import json
import re

import pytest

from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(figures)

CARDS = sorted((ROOT / "workbench" / "pretrained").glob("*.md"))


@pytest.mark.parametrize("path", figures.texts(), ids=lambda path: path.name)
def test_tables_equal_the_stored_scores(path):
    text = path.read_text(encoding="utf-8")
    assert figures.filled(text) == text


def test_texts_have_the_expected_tables():
    """A place that was renamed or lost would make the test above pass by having nothing to compare."""
    places = {path: set(figures.PLACE.findall(path.read_text(encoding="utf-8"))) for path in figures.texts()}
    named = {path.relative_to(ROOT).as_posix(): found for path, found in places.items()}
    assert not named["README.md"]
    assert named["docs/experiment.md"] == {
        "experiment", "gradient norm ratios", "step times", "replication", "search", "gradients of the search",
        "shipped on vid4", "shipped on held_out", "convergence", "more steps", "frozen flow", "second pair",
    }  # fmt: skip
    assert named["docs/networks.md"] == {"temporal share"}
    assert all(named[f"workbench/pretrained/{card}.md"] == {f"card of {card}"} for card in figures.CARDS)


def test_no_score_is_outside_of_a_table():
    """README and the cards contain no number of decibels outside of tables."""
    for path in (ROOT / "README.md", *CARDS):
        outside = figures.PLACE.sub("", path.read_text(encoding="utf-8"))
        assert not re.findall(r"\d+\.\d+ ?dB", outside), path.name


def test_a_changed_score_is_found(tmp_path, monkeypatch):
    for held in figures.SCORES.glob("*.json"):
        (tmp_path / held.name).write_bytes(held.read_bytes())
    changed = json.loads((tmp_path / "shipped_vid4.json").read_text(encoding="utf-8"))
    changed["methods"][0]["mean"]["psnr_y_db"] += 1
    (tmp_path / "shipped_vid4.json").write_text(json.dumps(changed), encoding="utf-8")
    monkeypatch.setattr(figures, "SCORES", tmp_path)
    with pytest.raises(SystemExit, match=r"docs/experiment\.md"):
        figures.main(check=True)


def test_a_card_has_the_scores_that_are_stored_under_its_name(tmp_path, monkeypatch):
    for held in figures.SCORES.glob("shipped_*.json"):
        stored = json.loads(held.read_text(encoding="utf-8"))
        stored["methods"] = [one for one in stored["methods"] if one["method"] in ("bicubic", "vespcn_plain")]
        for method in stored["methods"]:
            method["method"] = {"vespcn_plain": "vespcn_std"}.get(method["method"], method["method"])
        (tmp_path / held.name).write_text(json.dumps(stored), encoding="utf-8")
    monkeypatch.setattr(figures, "SCORES", tmp_path)
    score = figures.shipped("shipped_vid4")["vespcn_std"]["mean"]["psnr_y_db"]
    card = figures.card_lines("vespcn_std")
    assert f"| Vid4, BI x4 | {score:.2f} dB / " in card
    assert "| `vespcn_std` | " in card.partition("true - copies")[2]
    assert "Vid4, BI x4" not in figures.card_lines("vespcn_output")  # of another name, so of other weights


def test_an_unknown_table_is_an_error():
    with pytest.raises(SystemExit, match="no table 'nonsense'"):
        figures.filled("<!-- figures: nonsense -->\n<!-- end of figures -->")


@pytest.mark.parametrize("file", figures.FIGURES)
def test_a_figure_shows_every_variant_with_three_seeds(file):
    panels = figures.FIGURES[file]
    axes = figures.forest(*panels).axes
    assert (figures.SCORES / file).is_file()
    for axis, (stored, data) in zip(axes, panels, strict=True):
        labels = [label.get_text() for label in axis.get_yticklabels()]
        results = figures.results(stored)
        seeds = {name: len(results.values(name, data, "psnr_y_db")) for name in results.scores}
        names = [name for name, count in seeds.items() if count > 2 and name != "plain"]
        assert sorted(labels) == sorted(figures.find_variant(name).label for name in names)
        assert sorted(text.get_text() for text in axis.texts) == sorted(f"{seeds[name]} seeds" for name in names)
