"""Whether the winner of a study is the best of its leaders on seeds that had no part in choosing it.

The best of many noisy results is an optimistic one: it was chosen for its luck too. So the leaders are
evaluated again, all with the same fresh seeds, and each is compared with the winner seed by seed.

| symbol | meaning |
|---|---|
| `k` | fresh seeds |
| `m` | leaders that are compared with the winner |
| `d_i` | by how much a leader is better than the winner on seed i |

The interval of a mean difference is Student's, mean(d) +- t(1 - a / 2, k - 1) sd(d) / sqrt(k), with
a = 0.05 / m (Bonferroni): the chance that any of the m is wrong is 5% at most, were the d_i normal. Seeds
are drawn independently, so nothing is corrected for shared rows as in :mod:`hpo_core.folds`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hpo_core._errors import InputError
from hpo_core._logs import sign_of
from hpo_core._moments import deviation, mean
from hpo_core._study import Study
from hpo_core.folds import Paired, paired_test

__all__ = [
    "CONFIRMED",
    "CONFIRMS",
    "Again",
    "Confirmation",
    "Verdict",
    "around",
    "confirmed",
    "overtaken",
    "said_of",
]

# Topics of the notes by which the study that was confirmed, and the one that confirms it, keep what came out.
CONFIRMED, CONFIRMS = "confirmation", "verdict"
_ERROR = 0.05


class Verdict(StrEnum):
    """What fresh seeds say of a study's winner."""

    HOLDS = "holds"
    ANOTHER = "another"  # is better
    OPEN = "open"
    ALONE = "alone"  # there was nothing to compare it with
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A leader evaluated again.

    ``reported``: its result in the study. ``results``: by seed; empty where it failed, ``reason`` says why.
    """

    trial: int
    reported: float
    results: Mapping[int, float]
    reason: str = ""

    @property
    def mean(self) -> float:
        """Over the fresh seeds; NaN without any."""
        return mean(list(self.results.values())) if self.results else math.nan

    @property
    def spread(self) -> float:
        """Sample standard deviation over the fresh seeds; NaN with fewer than two."""
        return deviation(list(self.results.values())) if len(self.results) > 1 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """``leaders``: the study's winner first. ``differences`` from the winner, by trial.

    ``verdict`` on the winner. ``trial``: the one to take, ``None`` where all failed.
    """

    leaders: tuple[Again, ...]
    differences: Mapping[int, Paired]
    verdict: Verdict
    trial: int | None
    seeds: int

    @property
    def winner(self) -> Again:
        """The study's own best trial."""
        return self.leaders[0]

    def sentence(self) -> str:
        """The verdict in words."""
        winner, on = self.winner.trial, f"on {self.seeds} fresh seeds"
        match self.verdict:
            case Verdict.HOLDS:
                return (
                    f"the winner, trial {winner}, holds: {on} it is better than {_listed(self.differences)}"
                )
            case Verdict.ANOTHER:
                assert self.trial is not None
                by = self.differences[self.trial]
                return (
                    f"trial {self.trial} is better than the winner, trial {winner}, {on}: by {by.gain:.4g} "
                    f"({by.low:.4g} to {by.high:.4g})"
                )
            case Verdict.OPEN:
                near = [trial for trial, by in self.differences.items() if by.low <= 0.0 <= by.high]
                return f"the winner, trial {winner}, and {_listed(near)} cannot be told apart {on}"
            case Verdict.ALONE:
                return f"the winner, trial {winner}, was evaluated {on} and compared with no other"
        return f"the winner, trial {winner}, failed on fresh seeds: {self.winner.reason}"


def _listed(trials: Sequence[int] | Mapping[int, Paired]) -> str:
    numbers = [str(trial) for trial in trials]
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def confirmed(leaders: Sequence[Again], direction: str) -> Confirmation:
    """The verdict on leaders, the study's winner being the first.

    Those with results have them for the same seeds. Raises :class:`InputError` for fewer than two seeds.
    """
    winner, others = leaders[0], [leader for leader in leaders[1:] if leader.results]
    seeds = len(next((leader.results for leader in leaders if leader.results), ()))
    if not winner.results:
        best = min(others, key=lambda leader: sign_of(direction) * leader.mean, default=None)
        return Confirmation(
            leaders=tuple(leaders),
            differences={},
            verdict=Verdict.FAILED,
            trial=None if best is None else best.trial,
            seeds=seeds,
        )
    if any(other.results.keys() != winner.results.keys() for other in others):
        seeds_of = {leader.trial: sorted(leader.results) for leader in (winner, *others)}
        raise InputError(f"leaders need results on the same seeds, got those of {seeds_of}, by trial")
    level = 1.0 - _ERROR / max(len(others), 1)
    differences = {
        other.trial: paired_test(other.results, winner.results, direction, seeds=True, level=level)
        for other in others
    }
    verdict, trial = Verdict.OPEN, winner.trial
    better = {number: by for number, by in differences.items() if by.low > 0.0}
    if better:
        verdict, trial = Verdict.ANOTHER, max(better, key=lambda number: better[number].gain)
    elif not differences:
        verdict = Verdict.ALONE
    elif all(by.high < 0.0 for by in differences.values()):
        verdict = Verdict.HOLDS
    return Confirmation(
        leaders=tuple(leaders), differences=differences, verdict=verdict, trial=trial, seeds=seeds
    )


def around(sentence: str, *, confirms: bool, changed: bool = False) -> tuple[str, str]:
    """What a verdict's reader sees before and after the name of the other study, wherever that is.

    ``confirms``: in the study that found it, else in the one that was confirmed, of which another trial may
    have become the best since: ``changed``.
    """
    before = "Verdict on the trials of " if confirms else "Verdict of "
    return before, f": {sentence}.{' Another trial has become the best since.' * changed}"


def overtaken(study: Study, confirmation: Mapping[str, Any]) -> bool:
    """Whether another trial has become the best since that ``confirmation`` was noted of the study."""
    return len(study.objectives) == 1 and study.best.number != confirmation["trials"][0]["trial"]


def said_of(study: Study) -> str:
    """What was noted of a confirmation of the study, or by it of another one, in a line; empty if nothing."""
    newest = {note.topic: note.data for note in study.state.notes}
    if CONFIRMED in newest:
        data = newest[CONFIRMED]
        words = around(data["sentence"], confirms=False, changed=overtaken(study, data))
        return str(data["study"]).join(words)
    if CONFIRMS in newest:
        data = newest[CONFIRMS]
        return str(data["study"]).join(around(data["sentence"], confirms=True))
    return ""
