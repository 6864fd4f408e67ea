"""Processes: memory, and how those that were started are ended, with the names that Windows lacks taken away."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from workbench import process
from workbench.process import detached, end_tree, peak_bytes, was_killed


def test_peak_memory_excludes_that_of_the_parent():
    """A child of a process that holds 400 MB begins small, and grows by the 200 MB that it takes."""
    block = bytearray(400_000_000)
    block[::4096] = b"x" * len(block[::4096])
    code = (
        "from workbench.process import peak_bytes; before = peak_bytes(); "
        "block = bytearray(200_000_000); block[::4096] = b'x' * len(block[::4096]); print(before, peak_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert peak_bytes() > 400_000_000
    assert before < 150_000_000
    assert 190_000_000 < after - before < 230_000_000


UNIX_ONLY = (
    (os, ("getuid", "geteuid", "killpg", "getpgid", "fork", "sched_getaffinity", "sysconf")),
    (signal, ("SIGKILL", "SIGHUP", "SIGCHLD", "SIGALRM")),
)
"""Names that Python's library reference gives as "Availability: Unix", and Windows lacks."""


@pytest.fixture
def without_unix(monkeypatch):
    """Take the names away that Windows lacks."""
    for module, names in UNIX_ONLY:
        for name in names:
            monkeypatch.delattr(module, name, raising=False)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "fcntl", None)


def family(tmp_path, stubborn):
    """A process that has started another; both ignore a polite request where they are stubborn."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    child = f"{deaf}import time; open({str(tmp_path / 'ready')!r}, 'w').close(); time.sleep(60)"
    parent = f"{deaf}import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    started = subprocess.Popen([sys.executable, "-c", parent], **detached())
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    return started, psutil.Process(started.pid).children(recursive=True)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_process_and_its_children_are_ended(tmp_path, monkeypatch, stubborn):
    """psutil itself needs the signals on Unix, so only the calls are taken away."""
    for name in ("killpg", "getpgid", "fork"):
        monkeypatch.delattr(os, name, raising=False)
    started, children = family(tmp_path, stubborn)
    assert len(children) == 1
    end_tree(started, patience=0.2 if stubborn else 30)
    assert started.poll() is not None
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    end_tree(started)  # again, of one that is gone


def test_a_killed_process_is_recognized_by_its_status(without_unix):
    assert [was_killed(status) for status in (-9, 0xC0000017, 0, 1, -15, None)] == [True, True, *[False] * 4]


def test_on_windows_an_interrupt_of_the_terminal_does_not_reach_a_new_process(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    assert detached() == {"creationflags": 0x200, "start_new_session": False}


def test_peak_memory_on_windows(monkeypatch, without_unix):
    monkeypatch.setattr(sys, "platform", "win32")
    about = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=12345))
    monkeypatch.setattr(process.psutil, "Process", lambda: about)
    assert peak_bytes() == 12345
