"""The journal: what a crash, a full disk, a flipped bit and a second driver do to it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import InputError, Journal, JournalError, StudyLockedError
from hpo_core import _events as ev
from hpo_core._journal import decode_line, encode_line, is_open, lock_of, read_journal
from tests.full_disk import small_files
from tests.hpo_core.space_strategies import json_values

texts = st.text(max_size=6)
floats = st.floats(allow_nan=False)
numbers = st.dictionaries(texts, st.floats(), max_size=3)
objects = st.dictionaries(texts, json_values, max_size=3)
_BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "str": texts,
    "int": st.integers(0, 10**6),
    "float": st.floats(0, 2e9),
    "bool": st.booleans(),
    "int | None": st.none() | st.integers(0, 100),
    "Params": objects,
    "Metrics": numbers,
    "dict[str, Any]": objects,
    "dict[str, str]": st.dictionaries(texts, texts, max_size=2),
    "dict[str, float | str | None]": st.dictionaries(
        texts, st.none() | st.floats(0, 1e6) | texts, max_size=2
    ),
    "list[int]": st.lists(st.integers(0, 99), max_size=3),
    "list[float]": st.lists(st.floats(-1, 1), max_size=3),
    "list[str]": st.lists(texts, max_size=3),
}


@st.composite
def events(draw: st.DrawFn) -> ev.Event:
    """Any event with any content."""
    cls = draw(st.sampled_from(sorted(ev.EVENT_TYPES.values(), key=lambda c: c.type)))
    return cls(**{f.name: draw(_BY_ANNOTATION[str(f.type)]) for f in dataclasses.fields(cls)})


def sample_events(n: int = 5) -> list[ev.Event]:
    return [
        ev.TrialReported(trial=i, step=1, metrics={"loss": i / 3, "é": math.inf}, at=1.5 * i)
        for i in range(n)
    ]


def written(path: Path, n: int = 5) -> list[ev.Event]:
    with Journal(path) as journal:
        for event in sample_events(n):
            journal.append(event)
    return sample_events(n)


def reopened(path: Path) -> list[ev.Event]:
    with Journal(path) as journal:
        return journal.events


@given(st.lists(events(), max_size=4))
def test_every_event_survives_its_line(given_events: list[ev.Event]) -> None:
    for seq, event in enumerate(given_events):
        line = encode_line(seq, event)
        assert line.count(b"\n") == 1
        number, again = decode_line(line)
        assert number == seq
        # repr and not ==, as NaN is not equal to itself; it also tells 1 from 1.0 and True.
        assert repr(again) == repr(event)


@given(events())
def test_lines_are_strict_json(event: ev.Event) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    data = json.loads(encode_line(3, event), parse_constant=refuse)
    assert data["seq"] == 3
    assert data["type"] == event.type


def test_non_finite_numbers_travel_as_strings() -> None:
    event = ev.TrialReported(
        trial=0, step=1, metrics={"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}
    )
    data = json.loads(encode_line(0, event))
    assert data["metrics"] == {"a": "nan", "b": "inf", "c": "-inf", "d": 1.0}


def test_what_json_cannot_carry_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        for data in ({"x": object()}, {"x": math.nan}):
            with pytest.raises(InputError, match="noted holds something that is no JSON"):
                journal.append(ev.Noted(topic="t", data=data))
        journal.append(ev.Noted(topic="t", data={}))
    assert reopened(tmp_path / "j.jsonl") == [ev.Noted(topic="t", data={})]


# -- damage ----------------------------------------------------------------------------------------


def test_a_torn_last_line_is_cut_off_at_whatever_byte_and_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    all_events = written(path, 2)
    whole = path.read_bytes()
    ends = [0] + [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends) - 1
        with Journal(path) as journal:
            assert journal.events == all_events[:kept]
            assert path.stat().st_size == ends[kept]
            assert journal.append(all_events[kept]) == kept
        assert path.read_bytes() == whole[: ends[kept + 1]]


def test_who_reads_while_a_torn_line_is_replaced_gets_the_whole_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    sample = sample_events(5)
    lines = [encode_line(seq, event) for seq, event in enumerate(sample)]
    path.write_bytes(b"".join(lines[:3]) + lines[3][:-7])
    reader = read_journal(path)
    read = [next(reader)[1]]  # it has looked ahead, to the torn line's end
    others = [ev.TrialReported(trial=9, step=i, metrics={"loss": 0.0}, at=9.5) for i in (1, 2)]
    with Journal(path) as journal:
        for event in others:
            journal.append(event)
    read += [event for _, event, _ in reader]
    assert read == sample[:3]
    assert [event for _, event, _ in read_journal(path)] == sample[:3] + others


def test_blocks_of_zeros_that_a_power_cut_leaves_are_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    all_events = written(path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(4096))
    assert reopened(path) == all_events
    assert path.read_bytes() == whole


def test_any_other_changed_byte_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    """Every byte of every line, the last one included, flipped in a bit and turned into a newline."""
    path = tmp_path / "j.jsonl"
    written(path, 3)
    whole = path.read_bytes()
    line = 1
    for at, byte in enumerate(whole):
        for new in {byte ^ 1, 10} - {byte}:
            path.write_bytes(whole[:at] + bytes([new]) + whole[at + 1 :])
            with pytest.raises(JournalError, match=rf"j\.jsonl, line {line}, is damaged: .*; restore"):
                list(read_journal(path))
        line += byte == 10
    path.write_bytes(whole)
    assert len(reopened(path)) == 3


def test_a_damaged_journal_is_not_touched_and_not_left_locked(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    written(path)
    damaged = path.read_bytes().replace(b'"trial":2', b'"trial":7')
    path.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(JournalError, match="line 3, is damaged: its checksum does not match"):
            Journal(path)
    assert path.read_bytes() == damaged


def test_missing_and_doubled_lines_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong in (lines[:2] + lines[3:], lines[:2] + lines[1:], lines[1:], lines[::-1]):
        path.write_bytes(b"".join(wrong))
        with pytest.raises(JournalError, match=r"expected event .*, got .*missing or doubled"):
            Journal(path)


def test_an_event_of_a_later_version_is_an_error_and_its_new_fields_are_not(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"

    line = encode_line(0, sample_events(1)[0])

    def signed(body: bytes) -> bytes:
        return body[:-1] + f',"crc":"{zlib.crc32(body):08x}"}}\n'.encode()

    body = line[:-19] + b"}"
    assert signed(body) == line
    path.write_bytes(signed(body.replace(b"trial_reported", b"trial_divined")))
    with pytest.raises(
        JournalError, match=r"this version knows no such event .*was it written by a newer one"
    ):
        Journal(path)
    # Signed by whoever wrote it, and yet no event.
    for odd in (b"5", b"[" * 100_000):
        path.write_bytes(signed(body[:-1].replace(b'"metrics"', b'"was"') + b',"metrics":' + odd + b"}"))
        with pytest.raises(JournalError, match="line 1"):
            Journal(path)
    path.write_bytes(signed(body[:-1] + b',"mood":"good"}'))
    assert reopened(path) == sample_events(1)


def test_reading_can_start_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    all_events = written(path)
    rows = list(read_journal(path))
    assert [seq for seq, _, _ in rows] == [0, 1, 2, 3, 4]
    assert [event for _, event, _ in read_journal(path, start=rows[2][2])] == all_events[3:]
    assert list(read_journal(path, start=rows[-1][2])) == []
    assert list(read_journal(tmp_path / "none.jsonl")) == []


# -- the disk --------------------------------------------------------------------------------------


def test_a_full_disk_leaves_a_journal_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    acknowledged: list[ev.Event] = []
    refusals: list[str] = []
    with small_files(2000):
        for event in sample_events(60):
            try:
                journal.append(event)
                acknowledged.append(event)
            except JournalError as error:
                refusals.append(str(error))
        assert len(acknowledged) > 5
        assert len(refusals) > 1
        assert all("free some space and run the same command again" in line for line in refusals)
        journal.close()
        assert path.read_bytes().endswith(b"\n")
        assert reopened(path) == acknowledged


def test_writing_goes_on_when_there_is_space_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        first, second, third = sample_events(3)
        journal.append(first)
        with small_files(path.stat().st_size + 10), pytest.raises(JournalError):
            journal.append(second)
        assert journal.append(third) == 1
    assert reopened(path) == [first, third]


def test_nothing_is_written_once_a_file_is_in_the_place_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "study" / "j.jsonl"
    with Journal(path) as journal:
        path.parent.rename(tmp_path / "elsewhere")
        path.parent.write_text("")
        with pytest.raises(JournalError, match="moved, removed or replaced"):
            journal.append(sample_events(1)[0])


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_once_the_folder_is_elsewhere(replaced: bool, tmp_path: Path) -> None:
    """What was written to a file that had been removed was lost with it, at the end of a night."""
    path, elsewhere = tmp_path / "study" / "j.jsonl", tmp_path / "elsewhere"
    with Journal(path) as journal:
        journal.append(sample_events(1)[0])
        path.parent.rename(elsewhere)
        if replaced:
            written(path, 2)
        with pytest.raises(JournalError, match="moved, removed or replaced while the study ran; remove"):
            journal.append(sample_events(1)[0])
        if not replaced:
            elsewhere.rename(path.parent)
            journal.append(sample_events(2)[1])
    assert len(reopened(path)) == 2


def test_a_journal_that_could_not_be_opened_is_not_left_locked(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with small_files(0), pytest.raises(JournalError, match="cannot open the journal"):
        Journal(path)
    Journal(path).close()


def test_a_closed_journal_and_a_bad_path_say_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="is closed; open it again"):
        journal.append(sample_events(1)[0])
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"cannot open the journal .*check the path"):
        Journal(tmp_path / "file" / "j.jsonl")


# -- two drivers -----------------------------------------------------------------------------------

HOLD = """
import sys
from hpo_core import Journal
journal = Journal(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_refused_until_the_first_is_dead_however_it_died(tmp_path: Path) -> None:
    path = tmp_path / "study" / "j.jsonl"
    for ending in (signal.SIGKILL, None):
        first = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."},
        )  # fmt: skip
        with first:
            assert first.stdout is not None
            assert first.stdin is not None
            assert first.stdout.readline() == "open\n"
            with pytest.raises(StudyLockedError, match=rf"driven by another process \(pid {first.pid}\)"):
                Journal(path)
            if ending is None:
                first.stdin.close()
            else:
                first.send_signal(ending)
            first.wait()
        Journal(path).close()


def test_who_looks_whether_a_study_is_driven_keeps_no_driver_out(tmp_path: Path) -> None:
    """To look, they share the lock for an instant: a driver that began just then was told of another one."""
    path = tmp_path / "j.jsonl"
    Journal(path).close()
    enough = threading.Event()

    def look() -> None:
        while not enough.is_set():
            is_open(path)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(500):
            Journal(path).close()
    finally:
        enough.set()
        looker.join()


def test_who_is_kept_from_a_processor_while_they_look_keeps_no_driver_out(tmp_path: Path) -> None:
    """A driver gave up after a thousand tries, which a busy machine can take away at once."""
    path = tmp_path / "j.jsonl"
    Journal(path).close()
    lock = os.open(lock_of(path), os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    on_again = threading.Timer(0.1, os.close, [lock])
    on_again.start()
    Journal(path).close()
    on_again.join()


def test_who_only_looks_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that looks and is stopped while it does, say; the file then still names the last driver."""
    monkeypatch.setattr("hpo_core._journal._LOOKED_AT_SECONDS", 0.0)
    path = tmp_path / "j.jsonl"
    Journal(path).close()
    lock = os.open(lock_of(path), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(StudyLockedError, match="driven by this process already"):
            Journal(path)
    finally:
        os.close(lock)
    Journal(path).close()


def test_a_driver_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it named by more than its own number, where the one before had a longer one."""
    monkeypatch.setattr("hpo_core._journal._LOOKED_AT_SECONDS", math.inf)
    path = tmp_path / "j.jsonl"
    lock_of(path).write_text("pid 123456789012")
    with Journal(path), pytest.raises(StudyLockedError, match="driven by this process already"):
        Journal(path)


def test_its_files_are_made_with_the_users_umask(tmp_path: Path) -> None:
    """Members of a group that share a folder, with a umask for that, can go on with each other's studies."""
    before = os.umask(0o002)
    try:
        with Journal(tmp_path / "journal.jsonl") as journal:
            journal.append(sample_events(1)[0])
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"journal.jsonl": 0o664, "journal.lock": 0o664}


def test_a_journal_is_open_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    assert not is_open(path)
    with Journal(path):
        assert is_open(path)
    assert not is_open(path)


def test_one_process_cannot_open_a_journal_twice(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j.jsonl"),
        pytest.raises(StudyLockedError, match="driven by this process already"),
    ):
        Journal(tmp_path / "j.jsonl")
    Journal(tmp_path / "j.jsonl").close()
