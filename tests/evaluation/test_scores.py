import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from workbench.errors import FolderError
from workbench.evaluation.protocols import PROTOCOLS
from workbench.evaluation.scores import (
    FORMAT,
    EvaluationResult,
    check_scores,
    mean_score,
    metrics_of,
    read_scores,
    write_scores,
)
from workbench.metrics import FIDELITY, METRICS


def result(**changes):
    """Two clips of unlike length; one frame of the second is equal to the truth."""
    curves = {
        "one": {"psnr_y_db": [20.0, 22.0], "t_diff": [math.nan, 3.0]},
        "two": {"psnr_y_db": [30.0, math.inf, 32.0, 34.0], "t_diff": [math.nan, 1.0, 1.0, 4.0]},
    }
    settings = {
        "protocol": PROTOCOLS["folders"],
        "network": "net",
        "data": "set",
        "low": "bi, made here",
        "numbers": {"one": [0, 1], "two": [0, 1, 2, 3]},
        "sizes": {"one": (64, 48), "two": (32, 32)},
        "per_frame": curves,
        "equal": {"one": [False, False], "two": [False, True, False, False]},
    }
    return EvaluationResult(**(settings | changes))


def as_json(value):
    """As it would be read from a file, refusing what JSON does not have."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(json.dumps(value, allow_nan=False), parse_constant=refuse)


def test_means_are_over_finite_values():
    assert math.isnan(mean_score([math.nan]))
    assert math.isnan(mean_score([math.inf, math.inf]))
    assert mean_score([1.0, math.inf, 3.0, math.nan]) == 2


def test_means_are_over_clips_or_over_frames():
    one = result()
    assert one.per_clip == {"one": {"psnr_y_db": 21, "t_diff": 3}, "two": {"psnr_y_db": 32, "t_diff": 2}}
    assert one.mean == {"psnr_y_db": 26.5, "t_diff": 2.5} == one.average("clips")
    flat = replace(one, protocol=replace(one.protocol, averaging="frames"))
    assert flat.mean == pytest.approx({"psnr_y_db": (20 + 22 + 30 + 32 + 34) / 5, "t_diff": 9 / 4})
    assert one.frames == {"one": 2, "two": 4}


def test_equal_frames_are_null_counted_and_not_in_means():
    read = as_json(result().to_dict())
    assert read["per_frame"]["two"]["psnr_y_db"] == [30, None, 32, 34]
    assert read["per_frame"]["two"]["equal"] == [False, True, False, False]
    assert read["per_clip"]["two"] == {"psnr_y_db": 32, "t_diff": 2, "equal_frames": 1}
    assert read["mean"] == {"psnr_y_db": 26.5, "t_diff": 2.5, "equal_frames": 1}
    assert read["per_frame"]["one"]["t_diff"] == [None, 3]
    assert read["averages"]["frames"]["psnr_y_db"] == pytest.approx(27.6)


def test_a_clip_of_equal_frames_alone_has_no_mean():
    curves = {"one": {"psnr_y_db": [math.inf] * 2}, "two": {"psnr_y_db": [30.0, 30.0]}}
    flags = {"one": [True] * 2, "two": [False] * 2}
    one = result(per_frame=curves, equal=flags, numbers={"one": [0, 1], "two": [0, 1]})
    assert math.isnan(one.per_clip["one"]["psnr_y_db"])
    assert one.mean == {"psnr_y_db": 30}
    assert as_json(one.to_dict())["per_clip"]["one"] == {"psnr_y_db": None, "equal_frames": 2}


def test_parts_of_a_set_have_their_own_means():
    read = as_json(result(groups={"one": "slow", "two": "fast"}).to_dict())
    assert read["per_group"] == {"slow": {"psnr_y_db": 21, "t_diff": 3}, "fast": {"psnr_y_db": 32, "t_diff": 2}}
    assert as_json(result().to_dict())["per_group"] == {}


def test_scored_frames_and_pixels_of_a_protocol():
    assert metrics_of(PROTOCOLS["vid4"]) == FIDELITY
    assert metrics_of(PROTOCOLS["reds4"]) == (*FIDELITY, "ssim_rgb")
    assert metrics_of(PROTOCOLS["reds4"], temporal=True, perceptual=True) == tuple(METRICS)


def test_a_method_is_added_to_a_file_and_replaces_itself(tmp_path):
    path = tmp_path / "deep" / "scores.json"
    assert read_scores(path) == []
    write_scores(path, [result()])
    write_scores(path, [result(network="other"), result(protocol=PROTOCOLS["folders"].change(crop_border=8))])
    better = result(per_frame={"one": {"psnr_y_db": [50.0, 50.0]}, "two": {"psnr_y_db": [50.0] * 4}})
    write_scores(path, [better])
    held = read_scores(path)
    assert [(one["network"], one["protocol"]["name"]) for one in held] == [
        ("other", "folders"),
        ("net", "folders+crop_border=8"),
        ("net", "folders"),
    ]
    assert held[-1]["mean"]["psnr_y_db"] == 50
    assert json.loads(path.read_text())["format"] == FORMAT
    assert sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")) == ["scores.json"]


def test_a_part_of_a_dataset_does_not_replace_the_whole(tmp_path):
    whole = result()
    one = result(
        selected=True,
        **{key: {"one": getattr(whole, key)["one"]} for key in ("numbers", "sizes", "per_frame", "equal")},
    )
    write_scores(tmp_path / "scores.json", [whole])
    write_scores(tmp_path / "scores.json", [one])
    assert [list(held["per_clip"]) for held in read_scores(tmp_path / "scores.json")] == [["one", "two"], ["one"]]


def test_scores_of_format_2_are_read_with_their_new_names(tmp_path):
    """Format 2 called the mean absolute error ``profile_distance``; the next write stores format 3."""
    path = tmp_path / "scores.json"
    old = result(per_frame={clip: {"psnr_y_db": [30.0], "mae": [2.0]} for clip in ("one", "two")}).to_dict()
    text = json.dumps({"format": 2, "scores": [old]}).replace('"mae"', '"profile_distance"')
    assert text.count("profile_distance") == 8
    path.write_text(text)
    assert read_scores(path) == [old]
    write_scores(path, [result(network="other")])
    assert [one["network"] for one in read_scores(path)] == ["net", "other"]
    assert json.loads(path.read_text())["format"] == FORMAT == 3
    assert "profile_distance" not in path.read_text()


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"format": 1, "scores": []}', '{"format": 2}', "[" * 9999])
def test_a_file_that_is_no_scores_is_not_overwritten(tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_text(content)
    for attempt in (read_scores, check_scores, lambda path: write_scores(path, [result()])):
        with pytest.raises(FolderError, match=r"scores.json: not .*--out"):
            attempt(path)
    assert path.read_text() == content


def test_a_file_without_write_permission_raises_before_scoring(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_scores(tmp_path / "file" / "scores.json")
    check_scores(tmp_path / "new" / "scores.json")
    assert not (tmp_path / "new" / "scores.json").exists()


def test_a_full_disk_leaves_the_old_scores(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_scores(path, [result()])
    before = path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_scores(path, [result(network="other")])
    assert path.read_text() == before
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*.partial"))


def test_concurrent_writers_lose_nothing(tmp_path):
    names = [f"net{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: write_scores(tmp_path / "scores.json", [result(network=name)]), names))
    assert sorted(one["network"] for one in read_scores(tmp_path / "scores.json")) == names
