import math

import pytest

from workbench.views import memory


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (1.0, "healthy"),
        (0.3, "healthy"),
        (0.296, "healthy"),
        (0.294, "thin"),
        (0.1, "thin"),
        (0.094, "collapsed"),
        (0.0, "collapsed"),
    ],
)
def test_the_words_and_where_they_change(index, word):
    assert memory.verdict(index)[0] == word


def test_one_batch_does_not_decide():
    log = [0.4, 0.35, 0.45] * 20 + [0.15]
    assert memory.verdict(memory.recent(log))[0] == "healthy"
    assert memory.recent([0.05] * 10 + [0.4] * memory.RECENT) == 0.4  # what is long past does not count
    assert memory.recent([None, math.nan]) is None
    assert memory.recent([]) is None


def test_every_verdict_says_what_it_was_measured_on():
    same = memory.sentence({memory.CROPS: 0.5, memory.CLIP: 0.4})
    assert same.startswith("The shared memory is healthy on the training crops and on the clip shown: what it holds")
    other = memory.sentence({memory.CROPS: 0.05, memory.CLIP: 0.4})
    assert other == "The shared memory is collapsed on the training crops, but healthy on the clip shown."
    assert memory.numbers({memory.CROPS: 0.05, memory.CLIP: None}).startswith("0.05 on the training crops (collapse")


def test_nothing_measured_nothing_said():
    assert memory.sentence({memory.CROPS: None, memory.CLIP: None}) == ""
    assert memory.numbers({}) == ""
