"""The errors of the project, split by what the caller does about them.

HpoError
├── InputError            fix the input and call again (the command line exits with 2)
│   ├── SpaceError        a search space or configuration that makes no sense
│   ├── StrategyError     a strategy that is unknown, or cannot handle this space or objective
│   ├── ObjectiveError    an objective that cannot be found, shipped or called
│   └── StudyExistsError  the name is taken by a study with another space, data or objective
├── JournalError          the journal is damaged; the message names the line (exits with 2)
│   ├── JournalWriteError the disk refuses to take more of it (exits with 1)
│   └── StudyLockedError  another driver holds the study (exits with 3)
├── StudyFinished         nothing is left to ask for
├── MustWait              nothing can be asked for until a running trial has been told
└── StudyStateError       a call that the trial's or study's state does not allow

TrialSignal               not errors: how an objective ends its own trial
├── TrialPruned           stopped early on purpose
├── TrialPaused           the segment has reached its target
└── Infeasible            the configuration cannot be evaluated
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HpoError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(HpoError):
    """The input is wrong: the message says what was expected, what came and what to do."""


class SpaceError(InputError):
    """A search space, a parameter or a configuration that makes no sense."""


class StrategyError(InputError):
    """A strategy that is unknown, or that cannot handle this space or these objectives."""


class ObjectiveError(InputError):
    """An objective that cannot be found, shipped to the workers, or called."""


class StudyExistsError(InputError):
    """The name belongs to a study with another space, objective or data."""


class JournalError(HpoError):
    """The journal cannot be read or written; the message names the file and the line."""


class JournalWriteError(JournalError):
    """The disk refuses what is to be journaled."""


class StudyLockedError(JournalError):
    """Another living driver holds the study."""


class StudyFinished(HpoError):
    """The study's budget is spent or its strategy has nothing left to propose."""


class MustWait(HpoError):
    """No trial can be started until one of the running trials has been told."""


class StudyStateError(HpoError):
    """The trial or the study is in a state that does not allow this call."""


class TrialSignal(Exception):
    """Base of the exceptions by which an objective ends its own trial on purpose."""


class TrialPruned(TrialSignal):
    """Raised in an objective to end the trial as pruned; its reports are kept."""


class TrialPaused(TrialSignal):
    """Raised by ``trial.report`` when the segment has reached its target; never raised by users."""


class Infeasible(TrialSignal):
    """Raised in an objective when the configuration cannot be evaluated at all."""


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint for a mistyped name: ``"; did you mean 'a' or 'b'?"``, or an empty string.

    Matching ignores case, so that ``Target`` finds ``target``. What is no text may resemble one.
    """
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)
    close = difflib.get_close_matches(str(name).lower(), list(by_lower), n=3, cutoff=0.5)
    if not close:
        return ""
    return "; did you mean " + " or ".join(repr(by_lower[c]) for c in close) + "?"
