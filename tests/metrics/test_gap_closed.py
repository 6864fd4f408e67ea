"""Gap closed, by hand."""

import subprocess
import sys

import pytest

from workbench.metrics.gap_closed import gap_closed


def test_gap_closed_is_the_percentage_of_the_teachers_lead():
    assert gap_closed(24.0, 24.3, 24.6) == pytest.approx(50)
    assert gap_closed(24.0, 23.7, 24.6) == pytest.approx(-50)
    assert gap_closed(0.5, 0.4, 0.1, better="lower") == pytest.approx(25)


@pytest.mark.parametrize("missing", range(3))
def test_gap_closed_needs_three_scores(missing):
    scores = [24.0, 24.3, 24.6]
    scores[missing] = None
    assert gap_closed(*scores) is None


def test_gap_closed_needs_a_teacher_that_leads():
    assert gap_closed(24.0, 24.3, 24.0) is None
    assert gap_closed(24.0, 24.3, 23.0) is None
    assert gap_closed(0.1, 0.2, 0.3, better="lower") is None
    assert gap_closed(24.0, 24.5, 24.04, min_lead=0.05) is None
    assert gap_closed(24.0, 24.5, 24.06, min_lead=0.05) is not None


def test_gap_closed_imports_no_torch():
    code = "import sys, workbench.metrics.gap_closed; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
