"""The projector's own notes: which run belongs to which trial, and how much of it is written.

Lines of JSON in ``runs.jsonl`` beside the journal. Only a cache: without it, or with another server,
everything is found again in MLflow by the tag ``hpo.uid`` and written once more, which changes nothing.

    {"study": "9f..", "uri": "http://..", "experiment": "3", "parent": "ab.."}   the first line
    {"trial": 17}                                   a run for trial 17 is about to be created
    {"trial": 17, "run": "cd.."}                    it exists
    {"trial": 17, "run": "cd..", "seq": 231, "status": "FINISHED"}    and shows all up to event 231
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tracking._text import redacted

FILE = "runs.jsonl"


@dataclass(slots=True)
class Known:
    """What is noted about one trial's run."""

    run_id: str | None = None
    seq: int = -1
    status: str | None = None
    intended: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where a study is projected to."""

    study_id: str
    uri: str
    experiment_id: str

    def to_json(self) -> dict[str, str]:
        """As the first line has it: passwords are in no file of ours."""
        return {"study": self.study_id, "uri": redacted(self.uri), "experiment": self.experiment_id}


class Cursor:
    """The notes on one study. Appends are not synced: they need to survive a kill, not a power cut."""

    def __init__(self, folder: Path, target: Target, *, events: int) -> None:
        """``events``: how many the journal has; notes on later ones belong to another journal."""
        self._path = folder / FILE
        self._target = target
        self._file: IO[str] | None = None
        self.parent: str | None = None
        self.trials: dict[int, Known] = {}
        self._load(events)

    def _load(self, events: int) -> None:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        records = [record for record in map(_parsed, lines) if record is not None]
        if not records or not self._target.to_json().items() <= records[0].items():
            return
        self.parent = records[0].get("parent")
        for record in records[1:]:
            known = self.trials.setdefault(record["trial"], Known())
            known.intended = "run" not in record
            known.run_id = record.get("run")
            known.seq = record.get("seq", known.seq if known.run_id else -1)
            known.status = record.get("status", known.status)
        if any(known.seq >= events for known in self.trials.values()):
            self.trials, self.parent = {}, None

    def begin(self, parent: str) -> None:
        """Start the file afresh, with what is known; keeps it as short as the study has trials."""
        self.parent = parent
        head = {**self._target.to_json(), "parent": parent}
        body = [_record(trial, known) for trial, known in self.trials.items()]
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text("".join(json.dumps(r) + "\n" for r in (head, *body)), encoding="utf-8")
            fresh.replace(self._path)
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
        except OSError:
            # A disk that is full is not MLflow's fault, which would be named; the journal says what to do.
            self._give_up()
        self.trials = {}

    def note(self, trial: int, known: Known) -> None:
        """Append one record."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_record(trial, known)) + "\n")
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Notes with a gap would make the next projector create runs twice; without any it asks MLflow."""
        with contextlib.suppress(OSError):  # what is still to be written is refused once more
            self.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; calling it twice is harmless."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _record(trial: int, known: Known) -> dict[str, Any]:
    if known.run_id is None:
        return {"trial": trial}
    if known.seq < 0:
        return {"trial": trial, "run": known.run_id}
    return {"trial": trial, "run": known.run_id, "seq": known.seq, "status": known.status}


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None  # the torn last line of a killed process
    return record if isinstance(record, dict) else None
