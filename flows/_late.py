"""Results that outlive their driver: what a segment came to, kept until the driver has journaled it.

A trial process ends with its driver, but it may have finished just before: while the driver hung, was
stopped, or was cut off from the Dask cluster that the process runs on. Its result then lies in the
study's folder. The next attempt takes it over instead of repeating the work; once that attempt has
begun to work it is too late, and the result is ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import Message, Saved, data_of, message_of

# Shorter segments are cheaper to repeat than to keep.
WORTH_SECONDS = 1.0
# What went wrong may go well in the next attempt, and what was told to stop is told again.
_KEPT = frozenset({m.RETURNED, m.PAUSED, m.PRUNED, m.INFEASIBLE})


@dataclass(frozen=True, slots=True)
class Late:
    """A result found: ``said`` are the messages of the segment, in order, ``outcome`` its end."""

    said: list[Message]
    outcome: Outcome

    def unheard(self, checkpoints: Mapping[int, Any]) -> Iterator[Message]:
        """What is to be folded of it by a driver that knows ``checkpoints`` of the trial, by step."""
        for message in self.said:
            if isinstance(message, Saved) and (message.step in checkpoints or not Path(message.uri).exists()):
                continue
            yield message


def leave(job: Job, said: Iterable[Message], outcome: Outcome) -> None:
    """Keep the result of a segment; where that cannot be done it is lost with its driver, as ever."""
    if outcome.kind not in _KEPT:
        return
    path = _path(Path(job.folder), job.trial, job.attempt)
    data = {"target": job.target, "said": [data_of(each) for each in said], "outcome": outcome.to_json()}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(data))
        unfinished.replace(path)


def find(job: Job) -> Late | None:
    """What the attempt before this one came to, if it had the same end to reach."""
    try:
        data = json.loads(_path(Path(job.folder), job.trial, job.attempt - 1).read_text())
        if data["target"] != job.target:
            return None
        messages = (message_of(each, _unanswered) for each in data["said"])
        return Late([message for message in messages if message is not None], Outcome(**data["outcome"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def discard(job: Job) -> None:
    """Forget what this attempt and those before it left, halves of it too: the journal has it, or goes on
    without it.
    """
    for attempt in range(1, job.attempt + 1):
        path = _path(Path(job.folder), job.trial, attempt)
        for left in path.parent.glob(f"{path.stem}.*"):
            left.unlink(missing_ok=True)


def _unanswered(run_id: str) -> None:
    """Nobody waits for it any more."""


def _path(folder: Path, trial: int, attempt: int) -> Path:
    return folder / "outcomes" / f"{trial}-{attempt}.json"
