"""Memory of a process."""

import subprocess
import sys

from workbench.process import peak_bytes


def test_what_was_taken_is_seen_and_what_the_parent_took_is_not():
    """A child of a process that holds 400 MB begins small, and grows by the 200 MB that it takes."""
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])
    code = (
        "from workbench.process import peak_bytes; before = peak_bytes(); "
        "block = bytearray(200_000_000); block[::4096] = b'x' * len(block[::4096]); print(before, peak_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert peak_bytes() > 400_000_000
    assert before < 150_000_000
    assert 190_000_000 < after - before < 230_000_000
