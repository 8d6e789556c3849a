"""The history of a study: what strategies read, in columns that are appended to and never re-encoded.

Notation
--------
n       trials asked so far; row = trial number
d       columns of the search space's unit cube
m       objectives, all minimised in here whatever the user's directions are
k       rows of evidence: finished trials and warm-start observations, in the order they became known
r       reports, in the order they arrived

Arrays are read-only views. Rows of evidence and of reports never change once written (a new version
of the space rewrites the encodings, and ``space.version`` tells; where a trial is run again, ``evidence``
and ``reports`` are other objects), so a memo keyed by their number is safe.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._columns import Column
from hpo_core._errors import SpaceError
from hpo_core._fitting import Unfit, fitted, meets
from hpo_core._logs import Evidence, Reports, minimised, sign_of
from hpo_core._outcome_constraints import OutcomeConstraint, excesses
from hpo_core._space import SearchSpace
from hpo_core._states import INFORMATIVE, VALUED, TrialState

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NOWHERE: Floats = np.empty(0)


class History:
    """A read-only, columnar view of a study for strategies; grown by the study's fold alone."""

    def __init__(
        self,
        *,
        space: SearchSpace,
        objectives: Mapping[str, str],
        seed: int,
        workers: int = 1,
        max_steps: int | None = None,
        rule: str = "last",
        outcome_constraints: Sequence[OutcomeConstraint] = (),
    ) -> None:
        self.space = space
        self.objectives: tuple[str, ...] = tuple(objectives)
        self.signs: Floats = np.array([sign_of(d) for d in objectives.values()])
        self._signs: list[float] = self.signs.tolist()
        self.seed = seed
        self.workers = workers
        self.max_steps = max_steps
        self.rule = rule
        """Which of a trial's results counts, see :class:`Settings`."""
        self.outcome_constraints = tuple(outcome_constraints)
        self.max_trials: int | None = None
        self.outside: frozenset[int] = frozenset()
        """Numbers of the trials whose configurations the space cannot have since it was edited."""
        self.length = 0
        self._counts = np.zeros(len(TrialState), dtype=np.int64)
        self._forks = 0
        self._no_new_trials = False
        self._params: list[dict[str, Any]] = []
        self._fits: list[bool] = []
        # Everything ever learned, whether it fits the present space or not: the space may change back.
        self._known = Evidence(0, self.n_objectives, len(self.outcome_constraints))
        self._observed: list[tuple[dict[str, Any], bool]] = []
        # A study that declares nothing learns the names from its objective.
        self.define_by_run = not space.names
        self._open: dict[int, None] = {}
        self._active: dict[TrialState, dict[int, None]] = {s: {} for s in TrialState if not s.finished}
        self._X = Column(np.float64, width=space.dims, fill=np.nan)
        self._states = Column(np.int8)
        self._values = Column(np.float64, width=self.n_objectives, fill=np.nan)
        self._steps = Column(np.int64)
        self._targets = Column(np.int64)
        self._brackets = Column(np.int64)
        self._parents = Column(np.int64)
        self._starts = Column(np.int64)
        self._pauses = Column(np.int64)
        self._moves = Column(np.int64)
        self._seen: dict[bytes, int] = {}
        self._warm: set[bytes] = set()
        # Of a define-by-run study: which columns its trials have left out, each pattern once, (d,) bool.
        self._left_out: dict[bytes, NDArray[np.bool_]] = {}
        self._evidence = Evidence(space.dims, self.n_objectives, len(self.outcome_constraints))
        self._reports = Reports(self.objectives, self._signs)
        # Trials that are run again: what they had shown after these steps is to be forgotten, once for all.
        self._withdrawn: dict[int, int] = {}

    # -- sizes ---------------------------------------------------------------------------------

    @property
    def n_objectives(self) -> int:
        """m, the number of objectives."""
        return len(self.objectives)

    @property
    def n_trials(self) -> int:
        """n, the number of trials asked so far."""
        return len(self._states)

    @property
    def trials_left(self) -> int | None:
        """How many new configurations the budget still has; forks do not count. ``None``: no limit.

        Also 0 of :meth:`without_new_trials`.
        """
        if self._no_new_trials:
            return 0
        if self.max_trials is None:
            return None
        return max(self.max_trials - (self.n_trials - self._forks), 0)

    @property
    def planned(self) -> int | None:
        """How many trials the budget allows in all: forks come on top of it. ``None``: no limit."""
        return None if self.max_trials is None else self.max_trials + self._forks

    def without_new_trials(self) -> History:
        """The history as it stands now, of a study whose sampler has no configuration left to start.

        It shares the columns, so it is made in no time, and is out of date once this one grows.
        """
        self._forget()
        other = copy.copy(self)
        other._no_new_trials = True
        return other

    def count(self, state: TrialState) -> int:
        """How many trials are in this state."""
        return int(self._counts[state])

    # -- columns by trial ----------------------------------------------------------------------

    @property
    def X(self) -> Floats:
        """(n, d) canonical unit cube of every trial, NaN = inactive."""
        return self._X.view

    @property
    def states(self) -> NDArray[np.int8]:
        """(n,) :class:`TrialState`."""
        return self._states.view

    @property
    def values(self) -> Floats:
        """(n, m) final values, minimised; NaN while unfinished and where there is none."""
        return self._values.view

    @property
    def steps(self) -> Ints:
        """(n,) last step reported, 0 for none."""
        return self._steps.view

    @property
    def targets(self) -> Ints:
        """(n,) the step each trial is to run to, -1 for the end."""
        return self._targets.view

    @property
    def brackets(self) -> Ints:
        """(n,) the scheduler's bracket of each trial."""
        return self._brackets.view

    @property
    def parents(self) -> Ints:
        """(n,) the trial each was forked from, -1 for none."""
        return self._parents.view

    @property
    def starts(self) -> Ints:
        """(n,) the step each trial began at: 0, or that of the checkpoint it was forked from."""
        return self._starts.view

    @property
    def pauses(self) -> Ints:
        """(n,) the target that each trial last paused at; before that its start, 0 if fresh."""
        return self._pauses.view

    @property
    def moves(self) -> Ints:
        """(v,) append-only: the trial of each change of state, in order. For memos that catch up."""
        return self._moves.view

    # -- what trials have shown -----------------------------------------------------------------

    @property
    def evidence(self) -> Evidence:
        """Results, of this study's trials and from elsewhere."""
        self._forget()
        return self._evidence

    @property
    def reports(self) -> Reports:
        """What trials have reported on their way."""
        self._forget()
        return self._reports

    # -- open trials ---------------------------------------------------------------------------

    @property
    def pending(self) -> Ints:
        """(p,) numbers of the trials that are waiting, running or paused, oldest first."""
        return np.fromiter(self._open, dtype=np.int64, count=len(self._open))

    @property
    def pending_X(self) -> Floats:
        """(p, d) their configurations."""
        return np.asarray(self._X.view[self.pending])

    def in_state(self, state: TrialState) -> Ints:
        """Numbers of the trials in an open state, in the order they entered it."""
        return np.fromiter(self._active[state], dtype=np.int64, count=len(self._active[state]))

    def completed(self, since: int = 0) -> list[int]:
        """Trials that have become complete from move number ``since`` on, in that order."""
        # A complete trial moves no more, so its last move is where it became complete.
        moved = dict.fromkeys(reversed(self.moves[since:].tolist()))
        return [trial for trial in reversed(moved) if self.states[trial] == TrialState.COMPLETE]

    def reports_of(self, trial: int) -> list[int]:
        """Rows of ``reports`` that belong to the trial, oldest first."""
        return self.reports.rows(trial)

    def params_of(self, trial: int) -> dict[str, Any]:
        """The trial's configuration in the user's units. Do not change it."""
        return self._params[trial]

    def seen(self, u: Floats) -> int | None:
        """The first trial that has this very configuration, if any."""
        return next((self._seen[key] for key in self._keys(u) if key in self._seen), None)

    def untried(self, points: Floats) -> NDArray[np.bool_]:
        """(k,) bool: which canonical ``points`` ``(k, d)`` are neither a trial nor an observation."""
        if self._left_out:
            return np.array([not any(map(self._known_key, self._keys(u))) for u in points], dtype=bool)
        return np.array([not self._known_key(key) for key in self.space.keys(points)], dtype=bool)

    def is_new(self, u: Floats) -> bool:
        """The same of one point ``(d,)``."""
        return bool(self.untried(u[None, :])[0])

    def first_untried(self, points: Floats) -> Floats | None:
        """The first of the points that is, ``(d,)``; ``None`` if none is."""
        untried = self.untried(points)
        return np.asarray(points[np.argmax(untried)]) if untried.any() else None

    def _known_key(self, key: bytes) -> bool:
        return key in self._seen or key in self._warm

    def _keys(self, u: Floats) -> list[bytes]:
        """The identities that a trial of the point may turn out to have.

        What a define-by-run objective asks for next follows from the values that it got before. So where a
        trial got the values that ``u`` has for everything that it asked for, ``u`` is that trial again,
        whatever it says of the rest.
        """
        return self.space.keys(np.stack([u, *(np.where(m, np.nan, u) for m in self._left_out.values())]))

    def _leave_out(self, u: Floats) -> None:
        """Remember which columns a trial of a define-by-run study did not ask for."""
        missing = np.isnan(u)
        if self.define_by_run and missing.any():
            self._left_out.setdefault(missing.tobytes(), missing)

    def may_hold(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration can be a trial: values in range, and names that are known.

        Of a define-by-run study any name may yet become known.
        """
        known = self.space.parameters
        return all(known[n].contains(v) if n in known else self.define_by_run for n, v in params.items())

    # -- growth, by the fold alone ---------------------------------------------------------------

    def _ask(
        self,
        params: dict[str, Any],
        *,
        target: int | None,
        bracket: int,
        parent: int | None,
        start: int,
    ) -> None:
        u, fits = self._encoded(params)
        trial = self.n_trials
        self._params.append(params)
        self._fits.append(fits)
        self._X.append(u)
        self._states.append(TrialState.WAITING)
        self._values.append(np.nan)
        self._steps.append(start)
        self._targets.append(-1 if target is None else target)
        self._brackets.append(bracket)
        self._parents.append(-1 if parent is None else parent)
        self._starts.append(start)
        self._pauses.append(start)
        self._moves.append(trial)
        if self._fits[trial]:
            self._seen.setdefault(self.space.key(u), trial)
        self._counts[TrialState.WAITING] += 1
        self._forks += parent is not None
        self._open[trial] = None
        self._active[TrialState.WAITING][trial] = None

    def _resolve(self, trial: int, params: dict[str, Any]) -> None:
        self._params[trial] = params
        u, fits = self._encoded(params)
        self._fits[trial] = fits and trial not in self.outside
        self._X[trial] = u
        if self._fits[trial]:
            self._seen.setdefault(self.space.key(u), trial)
            self._leave_out(u)

    def _move(self, trial: int, state: TrialState) -> None:
        old = TrialState(int(self._states.view[trial]))
        self._states[trial] = state
        self._moves.append(trial)
        if state is TrialState.PAUSED:
            target = int(self._targets.view[trial])
            self._pauses[trial] = target if target >= 0 else int(self._steps.view[trial])
        self._counts[old] -= 1
        self._counts[state] += 1
        if not old.finished:
            self._active[old].pop(trial, None)
        if state.finished:
            self._open.pop(trial, None)
        else:
            self._active[state][trial] = None
            if old.finished:  # a requeued trial
                self._open[trial] = None
                self._values[trial] = np.nan

    def _again(self, trial: int, state: TrialState, step: int) -> int:
        """Run a trial again, or pause it; returns the step that it is at then.

        What it has shown beyond ``step``, from which it goes on, is forgotten if it was the objective that
        ended it: whoever runs a trial again does not believe that.
        """
        if TrialState(int(self.states[trial])) in INFORMATIVE:
            self._withdrawn[trial] = self._steps[trial] = min(step, int(self.steps[trial]))
        self._move(trial, state)
        return int(self.steps[trial])

    def _forget(self) -> None:
        """Take out what was withdrawn, of many trials at once."""
        if self._withdrawn:
            self._known = self._known._without(self._withdrawn)
            self._evidence = self._evidence._without(self._withdrawn)
            self._reports = self._reports._without(self._withdrawn)
            self._withdrawn = {}

    def _retarget(self, trial: int, target: int | None) -> None:
        self._targets[trial] = -1 if target is None else target

    def _report(
        self,
        trial: int,
        step: int,
        metrics: Mapping[str, float],
        *,
        seconds: float = math.nan,
        first: bool = False,
    ) -> None:
        self._steps[trial] = step
        self.reports._append(trial, step, metrics, seconds, first)

    def _finish(self, trial: int, state: TrialState, metrics: Mapping[str, float], step: int) -> None:
        """``metrics``: all that it measured. ``step``: where it ended, not always where it last reported."""
        self._steps[trial] = step
        self._values[trial] = self._minimised(metrics if state in VALUED else {})
        self._move(trial, state)
        if state in INFORMATIVE:
            self._forget()
            judged = metrics if state in (TrialState.COMPLETE, TrialState.INFEASIBLE) else {}
            excess = excesses(self.outcome_constraints, judged)
            known = state in VALUED or np.isfinite(excess).any()
            row = self._minimised(metrics if known else {})
            self._known._append(_NOWHERE, row, state, step, trial, excess)
            if self._fits[trial]:
                self._evidence._append(self._X.view[trial], row, state, step, trial, excess)

    def _observe(self, params: dict[str, Any], values: Mapping[str, float], *, text: bool = False) -> None:
        row, excess = self._minimised(values), excesses(self.outcome_constraints, values)
        state = TrialState.FAILED if np.isnan(row).any() else TrialState.COMPLETE
        if (excess > 0.0).any():
            state = TrialState.INFEASIBLE
        self._observed.append((params, text))
        self._known._append(_NOWHERE, row, state, 0, -1, excess)
        self._learn(params, row, state, excess, text=text)

    def _learn(self, params: dict[str, Any], row: Floats, state: int, excess: Floats, *, text: bool) -> None:
        """Make evidence of an observation, as long as it fits the present space."""
        u, fits = self._matched(params) if text else self._encoded(params)
        if fits and (text or meets(self.space, params)):
            self._warm.add(self.space.key(u))
            self._leave_out(u)
            self.evidence._append(u, row, state, 0, -1, excess)

    def _minimised(self, values: Mapping[str, float]) -> Floats:
        return np.array(minimised(values, self.objectives, self._signs))

    def _encoded(self, params: Mapping[str, Any]) -> tuple[Floats, bool]:
        """``(d,)`` canonical, and whether the configuration is a point of the space at all.

        It is not when a value is out of range or unknown; the point is then ``NaN`` throughout, or, of a
        define-by-run study, says what is known. A parameter that the space gained since is inactive.
        """
        try:
            return self.space.encode(params), True
        except SpaceError:
            pass
        known = {n: v for n, v in params.items() if n in self.space.parameters and self.define_by_run}
        try:
            return self.space.encode(known), False
        except SpaceError:
            return np.full(self.space.dims, np.nan), False

    def _matched(self, params: Mapping[str, Any]) -> tuple[Floats, bool]:
        """The same for text from a source that may say more, or less, than an objective asks for."""
        try:
            u = self.space.encode(fitted(self.space, params, text=True))
        except Unfit:
            return np.full(self.space.dims, np.nan), False
        return u, not np.isnan(u).all()

    def _change_space(self, space: SearchSpace) -> None:
        """Re-encode everything under a new version of the space; what does not fit it is left out.

        So is what is in range and breaks a constraint: a model would measure proposals against results that
        none of them can have.
        """
        self._forget()
        self.space = space
        self._X = Column(np.float64, width=space.dims, fill=np.nan)
        self._seen, self._warm, self._left_out = {}, set(), {}
        for trial, params in enumerate(self._params):
            u, fits = self._encoded(params)
            self._fits[trial] = fits and trial not in self.outside
            self._X.append(u)
            if self._fits[trial]:
                self._seen.setdefault(space.key(u), trial)
                if TrialState(int(self._states.view[trial])).finished:  # the others may yet ask for more
                    self._leave_out(u)
        self._evidence = Evidence(space.dims, self.n_objectives, len(self.outcome_constraints))
        elsewhere = iter(self._observed)
        known = self._known
        states, steps = known.states.tolist(), known.steps.tolist()
        for row, trial in enumerate(known.trials.tolist()):
            values, excess = known.measured[row], known.excesses[row]
            if trial >= 0:
                if self._fits[trial]:
                    u = self._X.view[trial]
                    self.evidence._append(u, values, states[row], steps[row], trial, excess)
                continue
            params, text = next(elsewhere)
            self._learn(params, values, states[row], excess, text=text)
