"""Blind test of two methods of a scene, `tools/blind_test.py`."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from PIL import Image

from tests import specimens
from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("blind_test", ROOT / "tools" / "blind_test.py")
blind_test = importlib.util.module_from_spec(SPEC)
sys.modules["blind_test"] = blind_test
SPEC.loader.exec_module(blind_test)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return specimens.make_scene(tmp_path_factory.mktemp("blind") / "scene", height=96, width=128)


def make(scene, home, **settings):
    out, key = home / "images", home / "key.json"
    blind_test.make((str(scene),), out=out, key=key, crop=(24, 16), **{"seed": 3, **settings})
    return out, json.loads(key.read_text())


def test_an_image_has_the_reference_above_both_methods(scene, tmp_path):
    out, key = make(scene, tmp_path, trials=3)
    shown = blind_test.read_scene(scene)
    for number, trial in key["trials"].items():
        image = np.asarray(Image.open(out / f"{number}.png"))
        gap, label = blind_test.GAP, blind_test.LABEL_HEIGHT
        crop = np.s_[trial["top"] : trial["top"] + 16, trial["left"] : trial["left"] + 24]
        places = {"high": (gap + label, (2 * 24 + 3 * gap - 24) // 2)}
        low = 2 * (gap + label) + 16
        places |= {trial["a"]: (low, gap), trial["b"]: (low, 24 + 2 * gap)}
        for method, (top, left) in places.items():
            assert np.array_equal(image[top : top + 16, left : left + 24], shown.frame(method, trial["frame"])[crop])


def test_sides_are_balanced_and_no_crop_occurs_twice(scene, tmp_path):
    _, key = make(scene, tmp_path, trials=100)
    trials = key["trials"].values()
    left = sum(trial["a"] == "teacher" for trial in trials)
    assert 35 <= left <= 65  # outside with a probability of 0.002
    assert {frozenset((trial["a"], trial["b"])) for trial in trials} == {frozenset(("plain", "teacher"))}
    assert len({(trial["frame"], trial["top"], trial["left"]) for trial in trials}) == 100


def test_the_seed_decides_the_test_and_without_one_it_is_random(scene, tmp_path):
    keys = [make(scene, tmp_path / str(i), seed=seed)[1] for i, seed in enumerate((1, 1, 2, None, None))]
    assert keys[0] == keys[1] != keys[2]
    assert keys[3]["seed"] != keys[4]["seed"]


def test_files_have_no_hint(scene, tmp_path, capsys):
    out, _ = make(scene, tmp_path, trials=4, zoom=2)
    files = sorted(out.iterdir())
    assert [file.name for file in files] == ["001.png", "002.png", "003.png", "004.png", "answers.json"]
    images = files[:4]
    assert len({file.stat().st_size for file in images}) == 1
    assert {str(Image.open(file).info) for file in images} == {"{}"}
    written = b"".join(file.read_bytes() for file in files) + capsys.readouterr().out.encode()
    assert not [word for word in (b"plain", b"teacher", b"seed") if word in written]
    assert json.loads(files[4].read_text()) == dict.fromkeys(("001", "002", "003", "004"), "")


def test_the_order_is_shuffled_over_scenes_and_pairs(scene, tmp_path):
    _, key = make(scene, tmp_path, trials=20, pairs=("plain,teacher", "plain,distilled"))
    pairs = [tuple(trial["pair"]) for trial in key["trials"].values()]
    assert pairs.count(("plain", "teacher")) == pairs.count(("plain", "distilled")) == 20
    assert pairs != sorted(pairs, reverse=True)


def trial(scene, a, b, smaller):
    return blind_test.Trial(scene, ("plain", "teacher"), 0, 0, 0, a, b, smaller)


def test_counts_and_p_values_are_those_by_hand(tmp_path, capsys):
    """Six of six: 2 / 2**6 = 0.03125. Seven of eight, with nine ways in each tail: 18 / 256 = 0.0703."""
    sides = ("plain", "teacher"), ("teacher", "plain")
    trials = {f"{i:03d}": trial("street", *sides[i % 2], "teacher") for i in range(6)}
    trials |= {f"{i:03d}": trial("page", *sides[0], "plain" if i == 7 else "teacher") for i in range(6, 8)}
    answers = {number: "B" if one.b == "teacher" else "A" for number, one in trials.items()} | {"007": "A"}
    rows = blind_test.table(trials, answers).splitlines()[2:]
    assert rows == [
        "| page | plain, teacher | 1 of 2 | 1 | 2 of 2 |",
        "| street | plain, teacher | 6 of 6 | 0.0312 | 6 of 6 |",
        "| all | plain, teacher | 7 of 8 | 0.0703 | 8 of 8 |",
    ]


@pytest.mark.parametrize("answers", [{"001": ""}, {"001": "C"}, {}, {"001": "A", "002": "B"}])
def test_wrong_answers_are_refused(answers):
    with pytest.raises(SystemExit, match=r"wrong: 00\d"):
        blind_test.table({"001": trial("street", "plain", "teacher", "teacher")}, answers)


def test_a_key_among_the_images_is_refused(scene, tmp_path):
    with pytest.raises(SystemExit, match="outside of"):
        blind_test.make((str(scene),), out=tmp_path / "images", key=tmp_path / "images" / "key.json")
    assert not (tmp_path / "images").exists()


def test_written_answers_are_scored(scene, tmp_path, capsys):
    out, key = make(scene, tmp_path, trials=2)
    answers = {n: "A" if one["a"] == one["smaller_error"] else "B" for n, one in key["trials"].items()}
    (out / "answers.json").write_text(json.dumps(answers))
    blind_test.score(answers=out / "answers.json", key=tmp_path / "key.json")
    assert "2 of 2" in capsys.readouterr().out
