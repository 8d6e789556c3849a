"""The journal: an append-only file of JSON lines, written by one driver at a time.

Each line is one event with a sequence number ``seq`` and a checksum ``crc`` (CRC-32 of the line
without it). A torn last line, which a crash or a full disk leaves, is cut off on opening; any other
damage is an error that names the line. The only module of ``hpo_core`` that touches files.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from hpo_core._errors import InputError, JournalError, JournalWriteError, StudyLockedError
from hpo_core._events import Event, StudyCreated, event_from_json, event_to_json

# How long to try for a lock that somebody only looks at. A look takes microseconds, and longer where the
# process that looks has to wait for a processor.
_LOOKED_AT_SECONDS = 5.0
_BETWEEN_TRIES_SECONDS = 0.001
# What a journal is called in its study's folder.
JOURNAL = "journal.jsonl"


@runtime_checkable
class EventSink(Protocol):
    """Where a study writes what happens to it, before it acts on it."""

    def append(self, event: Event) -> int:
        """Keep the event; returns its sequence number. Raises :class:`JournalError`."""
        ...


# One encoder for all lines: `json.dumps` makes a new one for each call with settings of its own.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode_line(seq: int, event: Event) -> bytes:
    """One line of the journal, newline included.

    Raises :class:`InputError` for content that JSON cannot carry.
    """
    try:
        body = _encode({"seq": seq, **event_to_json(event)})
    except (TypeError, ValueError) as error:
        raise InputError(f"{event.type} holds something that is no JSON ({error}): {event!r}") from None
    return f'{body[:-1]},"crc":"{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def decode_line(line: bytes) -> tuple[int, Event]:
    """``(seq, event)`` of one whole line. Raises ``ValueError`` for any damage."""
    # The checksum is the last field and has a fixed width: ,"crc":"01234567"} and the newline.
    body, tail = line[:-19] + b"}", line[-19:]
    if not (tail.startswith(b',"crc":"') and tail.endswith(b'"}\n')):
        raise ValueError("it does not end in a checksum")
    if f"{zlib.crc32(body):08x}".encode() != tail[8:16]:
        raise ValueError("its checksum does not match its content")
    try:
        data = json.loads(body.decode())
        return int(data["seq"]), event_from_json(data)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"this version knows no such event ({error!r}); was it written by a newer one?"
        ) from None


def read_journal(path: Path, *, start: int = 0) -> Iterator[tuple[int, Event, int]]:
    """Yield ``(seq, event, end offset)`` from byte offset ``start`` to the last whole line.

    A torn last line, one that has no end, is left out: it was never acknowledged. Raises
    :class:`JournalError` naming the line for other damage, and for a file that cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(
            f"cannot read the journal {path}: {error.strerror or error}; check who may read it"
        ) from error
    where = f"journal {path}, line {{}}" + (f" after byte {start}" if start else "")
    expected: int | None = None if start else 0
    with file:
        file.seek(start)
        offset = start
        for number, line in enumerate(file, start=1):
            try:
                if not line.endswith(b"\n"):
                    _check_torn(line)
                    return
                seq, event = decode_line(line)
            except ValueError as error:
                if _line_at(path, offset) != line:
                    return  # a driver has just cut a torn line off and written on: half of each was read
                raise JournalError(
                    f"{where.format(number)}, is damaged: {error}; restore the file from a copy (the study's "
                    "parent run has one), or cut it before this line"
                ) from None
            if expected is not None and seq != expected:
                raise JournalError(
                    f"{where.format(number)}: expected event {expected}, got {seq}; lines are missing or "
                    "doubled, restore the file from a copy"
                )
            expected = seq + 1
            offset += len(line)
            yield seq, event, offset


def read_created(path: Path) -> StudyCreated | None:
    """The fixed terms of the journal's study, from its first line; ``None`` while it holds no study.

    Raises :class:`JournalError` for a first line that is damaged, or another event's.
    """
    first = next((event for _, event, _ in read_journal(path)), None)
    if first is None or isinstance(first, StudyCreated):
        return first
    raise JournalError(
        f"journal {path} begins with {first.type} and not with a study; restore the file from a copy"
    )


def _line_at(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline()


def _check_torn(line: bytes) -> None:
    """Raise ``ValueError`` for a last line that is complete but for a newline that became something else."""
    try:
        decode_line(line[:-1] + b"\n")
    except ValueError:
        return
    raise ValueError(f"it ends in {line[-1:]!r} and not in a newline")


def lock_of(journal: Path) -> Path:
    """The file whose lock the driver of the journal's study holds."""
    return journal.with_suffix(".lock")


def is_open(journal: Path) -> bool:
    """Whether a living process on this machine has the journal open for writing."""
    try:
        lock = os.open(lock_of(journal), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _has_driver(lock)
    finally:
        os.close(lock)


class Journal:
    """The journal of one study, opened for writing; holds the study's lock while it is open.

    ``path`` is the file; its folder is made. ``events`` are those it held on opening. Raises
    :class:`StudyLockedError` when another process on this machine has the journal open, and
    :class:`JournalError` for damage and for a file that cannot be written.
    """

    def __init__(self, path: Path | str) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"a journal's path must be text or a Path, got {path!r}")
        self.path = Path(path)
        self.events: list[Event] = []
        self._file = -1
        self._lock = -1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path)
            end = 0
            for _, event, offset in read_journal(self.path):
                self.events.append(event)
                end = offset
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o666)
            if os.fstat(self._file).st_size > end:
                os.ftruncate(self._file, end)
        except OSError as error:
            self._release()
            raise JournalError(
                f"cannot open the journal {self.path}: {error.strerror or error}; check the path and who may "
                "write there"
            ) from error
        except BaseException:
            self._release()
            raise
        self._seq = len(self.events)
        self._end = end
        # A path takes as long to become text as to be looked up.
        self._place = str(self.path.absolute())
        self._identity = _file_at(self._file)

    def append(self, event: Event) -> int:
        """Write one event in a single system call; it survives the death of this process.

        Raises :class:`JournalWriteError` when the disk refuses, what was half written is taken back, and when
        the file is no longer at its path: whatever was written would be lost, or somebody else's.
        """
        if self._file < 0:
            raise JournalError(f"the journal {self.path} is closed; open it again")
        line = encode_line(self._seq, event)
        self._check_in_place()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise self._refused(error) from error
        if written != len(line):
            raise self._refused(OSError("the disk took only part of a line"))
        self._end += written
        self._seq += 1
        return self._seq - 1

    def _check_in_place(self) -> None:
        try:
            there = _file_at(self._place)
        except OSError:
            return  # who cannot look may be able to write
        if there != self._identity:
            raise JournalWriteError(
                f"the journal {self.path} was moved, removed or replaced while the study ran; remove what "
                "trials may have made in its place since, put its folder back, and run the same command "
                "again: it continues where this one stopped, or begins anew if nothing was put back"
            )

    def _refused(self, error: OSError) -> JournalWriteError:
        # Where even this fails, the next opening cuts the torn line off.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._end)
        return JournalWriteError(
            f"cannot write the journal {self.path}: {error.strerror or error}; free some space and run "
            "the same command again, it continues where this one stopped"
        )

    def sync(self) -> None:
        """Force what was appended to the disk, so that it survives a power cut as well."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and release the lock; calling it twice is harmless."""
        try:
            if self._file >= 0:
                self.sync()
        finally:
            self._release()

    def _release(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _file_at(place: str | int) -> tuple[int, int] | None:
    """Which file is at a path, or behind a descriptor; ``None`` for none. Raises :class:`OSError`."""
    try:
        status = os.stat(place)  # noqa: PTH116 - a path takes twice as long
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _locked(path: Path) -> int:
    """The descriptor that holds the lock of the journal at ``path``."""
    lock = os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(lock)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"pid {os.getpid()}".encode(), 0)
    except BlockingIOError:
        owner = os.pread(lock, 200, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        who = "this process already" if owner == f"pid {os.getpid()}" else f"another process ({owner})"
        raise StudyLockedError(
            f"the study in {path.parent} is being driven by {who}; wait for it, or stop it first"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _take(lock: int) -> None:
    """Take the lock, which the kernel drops when the process dies, however it dies.

    Raises :class:`BlockingIOError` where another driver has it. Who only looks whether there is one shares it
    for an instant, and is waited for.
    """
    import fcntl  # not on every platform that can otherwise import this package

    until = time.monotonic() + _LOOKED_AT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until or _has_driver(lock):
                raise
        time.sleep(_BETWEEN_TRIES_SECONDS)


def _has_driver(lock: int) -> bool:
    """Whether a driver has the lock of this descriptor: it is the only one who does not share it."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False
