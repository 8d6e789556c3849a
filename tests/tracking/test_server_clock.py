"""Leases between machines whose clocks differ: what counts is the tracking server's."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpo_core import StudyLockedError
from tests.tracking.conftest import Server
from tests.tracking.studies import Script
from tracking import StudyTracker, connect_to_study, fetch_journal
from tracking._lease import SECONDS, TAG, Lease
from tracking._server_clock import ServerClock

HOUR = 3600.0
# So far may machine and server be apart while a test is held up.
SLACK = 60.0

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Have this machine's clock be so many seconds ahead, as far as leases look at it."""

    def by(seconds: float) -> None:
        clock = SimpleNamespace(time=lambda: time.time() + seconds)
        monkeypatch.setattr("tracking._server_clock.time", clock)

    return by


@pytest.mark.parametrize(("drivers", "newcomers"), [(-HOUR, 0.0), (0.0, HOUR), (HOUR, 0.0), (0.0, -HOUR)])
def test_who_holds_a_study_is_not_a_matter_of_whose_clock_is_right(
    drivers: float, newcomers: float, server: Server, experiment: str, tmp_path: Path, set_clock: SetClock
) -> None:
    """With a clock that was ahead, a study was taken from a driver that lived, or held after its death."""
    script = Script(tmp_path / "first", name=f"toy {drivers:g} {newcomers:g}")
    script.study.execution.take_over("here:1", now=script.now())
    set_clock(drivers)
    tracker = StudyTracker(script.folder, server.uri, experiment)
    parent = str(tracker.start())
    set_clock(newcomers)
    found = connect_to_study(server.uri, script.study.name, experiment)
    assert found is not None
    with pytest.raises(StudyLockedError, match="is being driven by here:1") as held:
        fetch_journal(found, script.study.name, tmp_path / "second", to_drive=True)
    left = re.search(r"runs out in (\d+) s", str(held.value))
    assert left is not None
    assert SECONDS - SLACK <= int(left[1]) <= SECONDS + SLACK
    assert tracker.close(60.0)
    script.close()
    # Had it been killed, and its lease run out since:
    set_clock(drivers)
    lease = Lease(1, "here:1", ServerClock(server.uri).now() - 1.0)
    found.client.set_tag(parent, TAG, lease.to_tag())
    set_clock(newcomers)
    assert fetch_journal(found, script.study.name, tmp_path / "second", to_drive=True).exists()


def test_a_server_that_is_away_is_taken_to_go_on_as_it_did(
    server: Server, sqlite_uri: str, set_clock: SetClock
) -> None:
    set_clock(HOUR)
    clock = ServerClock(server.uri)
    assert abs(clock.now() - time.time()) < SLACK
    server.kill()
    assert abs(clock.now() - time.time()) < SLACK
    assert abs(ServerClock(server.uri).now() - time.time() - HOUR) < SLACK
    # A file is on this machine, and its clock is the one that counts.
    assert abs(ServerClock(sqlite_uri).now() - time.time() - HOUR) < SLACK
