"""What a killed driver's trials have started ends too, whatever session it is in."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.runners._strays import MARK, Guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard reads /proc")

PATIENCE = 30.0
# A driver with two marked processes, one orphaned in a session of its own, and one that is not marked.
DRIVER = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from flows.runners._strays import Guard

def sleeper(environment):
    return subprocess.Popen(
        ["sleep", "600"], env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    ).pid

guard = Guard()
marked = {**os.environ, **guard.marks}
orphan = subprocess.run(
    [sys.executable, "-c", "import subprocess; print(subprocess.Popen(['sleep', '600'], "
     "start_new_session=True, stdout=subprocess.DEVNULL).pid)"],
    env=marked, stdout=subprocess.PIPE, check=True,
)
print(sleeper(marked), int(orphan.stdout), sleeper(dict(os.environ)), flush=True)
sys.stdin.read()
guard.dismiss()
"""


@contextlib.contextmanager
def driver() -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The driver, and what it has started: two marked processes and one without a mark."""
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        started = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        try:
            yield process, started
        finally:
            process.kill()
            for each in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


def test_a_killed_driver_takes_what_carries_its_mark_along_and_nothing_else() -> None:
    with driver() as (process, (marked, orphan, other)):
        process.send_signal(signal.SIGKILL)
        process.wait()
        gone, alive = psutil.wait_procs([marked, orphan], timeout=PATIENCE)
        assert {p.pid for p in gone} == {marked.pid, orphan.pid}, alive
        assert other.is_running()


def test_a_driver_that_ends_in_order_has_no_strays_to_be_killed() -> None:
    with driver() as (process, started):
        process.communicate()
        assert process.returncode == 0
        assert all(each.is_running() for each in started)


def test_a_study_inside_a_trial_is_marked_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "outer")
    guard = Guard()
    try:
        assert guard.marks[MARK].split()[0] == "outer"
        assert len(guard.marks[MARK].split()) == 2
    finally:
        guard.dismiss()
