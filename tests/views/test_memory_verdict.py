import math

import pytest

from workbench.views import memory_verdict


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (1.0, "healthy"),
        (0.3, "healthy"),
        (0.296, "healthy"),
        (0.294, "weak"),
        (0.1, "weak"),
        (0.094, "collapsed"),
        (0.0, "collapsed"),
    ],
)
def test_the_verdicts_and_their_bounds(index, word):
    assert memory_verdict.verdict(index)[0] == word


def test_the_median_of_the_last_steps_decides():
    log = [0.4, 0.35, 0.45] * 20 + [0.15]
    assert memory_verdict.verdict(memory_verdict.recent(log))[0] == "healthy"
    assert memory_verdict.recent([0.05] * 10 + [0.4] * memory_verdict.RECENT) == 0.4  # older steps do not count
    assert memory_verdict.recent([None, math.nan]) is None
    assert memory_verdict.recent([]) is None


def test_the_sentence_names_the_data_of_the_measurement():
    same = memory_verdict.sentence({memory_verdict.CROPS: 0.5, memory_verdict.CLIP: 0.4})
    assert same.startswith("On the training crops and on the clip shown, ")
    assert same.endswith("(healthy).")
    other = memory_verdict.sentence({memory_verdict.CROPS: 0.05, memory_verdict.CLIP: 0.4})
    assert "collapsed on the training crops, but healthy on the clip shown" in other
    numbers = memory_verdict.numbers({memory_verdict.CROPS: 0.05, memory_verdict.CLIP: None})
    assert "0.05 on the training crops" in numbers
    assert memory_verdict.CLIP not in numbers


def test_no_sentence_without_a_measurement():
    assert memory_verdict.sentence({memory_verdict.CROPS: None, memory_verdict.CLIP: None}) == ""
    assert memory_verdict.numbers({}) == ""
