"""Run the best configurations of a study again on fresh seeds, as a study of its own, and say what came out.

That study has the configurations enqueued and as many repeats as asked for (:mod:`flows._repeats`), so it is
tracked, run in parallel and resumed as any other. Its seeds follow from a seed of its own, chosen so that
none of them has been any trial's, or any repeat's, in the study that it confirms.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flows._again import request_of
from flows._execute import Objective
from flows._files import is_there
from flows._find import experiment_of, find, is_driven, opened, tracker_of, tracking_of
from flows._notes import PLACE, TRACKING, identity_of, newest, request_data
from flows._plan import Plan, plan_callable, plan_request
from flows._provenance import changes_since
from flows._repeats import checked_repeats
from flows._report import renew_report
from flows._request import TOTALS, Request
from flows._result import Result
from flows._workspace import edited_by, study_folder
from hpo_core import HpoError, InputError, SpaceError, Study, TrialRecord, TrialState
from hpo_core.confirm import CONFIRMED, CONFIRMS, Again, Confirmation, confirmed
from hpo_core.folds import fold_results, repeats_of
from hpo_core.inner import JOURNAL, OutcomeConstraint, check_whole, nearest, ranked, repeat_seed, trial_seed
from tracking import finite, number_text
from tracking.tags import CONFIRMATION, CONFIRMED_BY, VERDICT

__all__ = ["Wish", "concluded", "confirm", "plan_confirmation", "results_table", "to_confirm"]

# Fresh seeds where nobody says how many.
SEEDS = 5
_DELIVER_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for: the best ``top`` of ``study``, each with ``repeats`` fresh seeds.

    ``repeats``: ``None`` for as many as were begun with, or 5. ``name``: of the study that confirms;
    ``terms``: changes of the request that the study was made by.
    """

    study: str
    top: int = 3
    repeats: int | None = None
    name: str | None = None
    terms: dict[str, Any] | None = None

    @property
    def named(self) -> str:
        """The name of the study that confirms."""
        return self.name or f"{self.study}-confirm"

    def seeds(self, known: Study | None) -> int:
        """How many fresh seeds, given the study that confirms where it has been begun."""
        if self.repeats is not None:
            return self.repeats
        return SEEDS if known is None else repeats_of(known)


def confirm(
    study: str,
    objective: Objective | None = None,
    *,
    top: int = 3,
    repeats: int | None = None,
    name: str | None = None,
    tell: Callable[[str], None] | None = None,
    **terms: Any,
) -> Confirmation:
    """Run the best ``top`` trials of a study again on ``repeats`` fresh seeds, by default 5.

    See ``hpo confirm`` for what it says. ``objective``: the function, where it is defined in a script or a
    notebook and cannot be loaded by its name. ``name``: of the study that does it, ``STUDY-confirm`` by
    default. ``tell``: takes the lines meant for the user. ``terms``: changes to how the study was run
    (``workers``, ``tracking_uri``...).

    Raises :class:`InputError` for what cannot be confirmed, :class:`HpoError` when it was interrupted.
    """
    from flows._tune import run_plan

    unknown = next((term for term in terms if term not in Request.__dataclass_fields__), None)
    if unknown is not None:
        raise InputError(
            f"confirm() has no argument {unknown!r}{nearest(unknown, Request.__dataclass_fields__)}"
        )
    wish = Wish(study=study, top=top, repeats=repeats, name=name, terms=terms)
    plan = plan_confirmation(wish, objective)
    done = concluded(wish, run_plan(plan, tell=tell or print))
    if done is None:
        raise HpoError("not all fresh seeds have been run; the same call goes on")
    return done[0]


def to_confirm(study: Study, top: int) -> list[TrialRecord]:
    """The best complete trials by the first objective, the winner first; of equal configurations the first.

    Those that an edit of the space has taken out of it, or that lack one of its parameters, do not count.
    Raises :class:`InputError` where there is none, or where a configuration does not say how it came about.
    """
    check_whole("top", top)
    if study.strategy.training_steps == "needed":
        raise InputError(
            f"{study.strategy.name} changes hyperparameters during training, so the configurations of study "
            f"{study.name!r} do not say how their results came about; only other strategies' can be confirmed"
        )
    complete = [study.trials[number] for number in ranked(study.history).tolist()]
    if not complete:
        raise InputError(f"study {study.name!r} has no complete trial to confirm")
    found: dict[str, TrialRecord] = {}
    for trial in complete:
        if _still_there(study, trial.params):
            found.setdefault(_key(trial.params), trial)
    if not found:
        raise InputError(f"study {study.name!r} has no complete trial in its space as it was edited")
    return list(found.values())[:top]


def _still_there(study: Study, params: Mapping[str, Any]) -> bool:
    """Whether the study could try the configuration now, just as it is."""
    if study.created.meta.get("define_by_run"):
        return True
    declared = study.state.declared
    given = {name: value for name, value in params.items() if name in declared.parameters}
    try:
        point = declared.encode(given)
    except SpaceError:
        return False
    whole = declared.snap(point[None, :])
    return np.array_equal(np.isnan(point), np.isnan(whole[0])) and bool(declared.allowed(whole)[0])


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def plan_confirmation(wish: Wish, objective: Objective | None = None) -> Plan:
    """The plan for the study that confirms; what it is to run beyond what it has is queued in it.

    ``objective``: the function, for a study whose objective cannot be loaded by its name. Raises
    :class:`InputError` for what cannot be confirmed.
    """
    if wish.repeats is not None and (checked_repeats(wish.repeats) or 1) < 2:
        raise InputError(f"differences need at least two fresh seeds, got repeats={wish.repeats}")
    study = find(wish.study)
    if is_driven(wish.study):
        raise InputError(f"study {wish.study!r} is running; confirm its winner once it has ended")
    configurations = [trial.params for trial in to_confirm(study, wish.top)]
    known = _known(wish, study)
    seeds = wish.seeds(known)
    request = request_of(
        study,
        remedy="" if objective else f"call flows.confirm({wish.study!r}, function) where it is defined",
        **{
            "workers": study.state.settings.workers,
            "trial_timeout": _trial_timeout(study, seeds),
            "experiment": experiment_of(study),
            **(wish.terms or {}),
            **_settled(study, wish, known, len(configurations)),
        },
    )
    if objective is None:
        plan = plan_request(request, objectives=study.objectives)
    else:
        space = None if study.created.meta.get("define_by_run") else study.state.declared
        plan = plan_callable(objective, request=request, space=space, objectives=study.objectives)
    _check_data(study, plan)
    meta = {**plan.terms.meta, "confirms": {"study": study.name, "study_id": study.created.study_id}}
    plan = replace(plan, terms=replace(plan.terms, meta=meta))
    changes = changes_since(study.created.meta.get("made_with") or {}, plan.terms.meta["made_with"])
    plan = replace(plan, notes=tuple(f"since the study was made: {line}" for line in changes))
    if known is None:
        return replace(plan, terms=replace(plan.terms, first=tuple(configurations)))
    return _going_on(plan, known, configurations)


def _going_on(plan: Plan, known: Study, configurations: list[dict[str, Any]]) -> Plan:
    """The plan for a study that confirms and has been begun: what it has not tried yet is queued in it.

    Of an edit of the space it takes what that needs: its trials are those that it is given.
    """
    terms = plan.terms
    tried = [trial.params for trial in known.trials] + list(known.state.queue)
    missing = [params for params in configurations if _key(params) not in set(map(_key, tried))]
    if missing:
        with opened(known.name) as writable:
            if terms.space is not None and edited_by(writable, terms):
                writable.change_space(terms.space, time.time())
            for params in missing:
                writable.enqueue(params, time.time())
    elif terms.space is not None:
        own = request_data(known.created.meta) | newest(known, PLACE)
        asked = {**request_data(terms.meta), "space": own.get("space")}
        terms = replace(terms, space=known.state.declared, meta={**terms.meta, "request": asked})
    limits = replace(terms.limits, trials=len(tried) + len(missing))
    return replace(plan, terms=replace(terms, limits=limits))


def _settled(study: Study, wish: Wish, known: Study | None, trials: int) -> dict[str, Any]:
    """What of the request is the confirmation's own. Raises :class:`InputError` where it was asked for."""
    seeds = wish.seeds(known)
    fields = {
        **dict.fromkeys((*TOTALS, "stop_when", "max_steps", "register_as")),
        "name": wish.named,
        "confirms": wish.study,
        "repeats": seeds,
        "seed": known.created.seed if known else _fresh_seed(study, wish.named, seeds),
        "trials": trials,
        "strategy": "random",
        "warm_start": (),
        "outcome_constraints": (),
        **dict.fromkeys(("rule", "on_duplicate")),
    }
    if vain := sorted(fields.keys() & (wish.terms or {}).keys()):
        raise InputError(f"a confirmation has a {vain[0]} of its own; leave {', '.join(vain)} out")
    return fields


def _known(wish: Wish, study: Study) -> Study | None:
    """The study that confirms, where it has been begun. Raises :class:`InputError` for any other, such as one
    that confirms an earlier study of the name, whose results may be other code's.
    """
    if not is_there(study_folder(wish.named) / JOURNAL):
        return None
    known = find(wish.named)
    of = request_data(known.created.meta).get("confirms")
    if of != wish.study:
        raise InputError(f"study {wish.named!r} is no confirmation of {wish.study!r}; give another --name")
    own = study.created.study_id
    if (known.created.meta.get("confirms") or {}).get("study_id", own) != own:
        raise InputError(
            f"study {wish.named!r} confirms an earlier study named {wish.study!r}, which is gone; give "
            f"another --name, or delete it with `hpo delete {shlex.quote(wish.named)}`"
        )
    if repeats_of(known) != wish.seeds(known):
        raise InputError(
            f"{wish.named!r} has {repeats_of(known)} fresh seeds, not {wish.repeats}; another --name begins "
            "with others"
        )
    return known


def _trial_timeout(study: Study, repeats: int) -> float | None:
    seconds = request_data(study.created.meta).get("trial_timeout")
    return None if seconds is None else float(seconds) * math.ceil(repeats / repeats_of(study))


def _fresh_seed(study: Study, named: str, seeds: int) -> int:
    """A seed whose repeats have seeds that the study has not used."""
    own = study.history.seed
    used = {trial_seed(own, trial.number) for trial in study.trials}
    used |= {repeat_seed(own, i) for i in range(1, repeats_of(study) + 1)}

    def drawn() -> Iterator[int]:
        for attempt in itertools.count(1):
            words = np.random.SeedSequence([own, *named.encode(), attempt]).generate_state(1)
            yield int(words[0]) % 2**31

    return next(
        seed for seed in drawn() if used.isdisjoint(repeat_seed(seed, i) for i in range(1, seeds + 1))
    )


def _check_data(study: Study, plan: Plan) -> None:
    then, now = identity_of(study.created.meta), plan.terms.identity
    if any(then.get(what, value) != value for what, value in now.items() if what in ("data", "question")):
        raise InputError(
            f"the data of study {study.name!r}, or the way they are split, have changed since, so its "
            "results cannot be compared with new ones"
        )


def concluded(wish: Wish, result: Result) -> tuple[Confirmation, dict[str, Any]] | None:
    """What was found, also in plain JSON types, and noted in the study that was confirmed.

    ``result``: of the study that confirms. ``None`` where not all of its seeds have been run.
    """
    stopped = result.study.stopped
    if stopped is None or stopped.state not in ("finished", "failed"):
        return None
    found = _outcome(wish)
    data = _as_data(wish, found, next(iter(result.study.objectives)))
    _keep(wish, data)
    return found, data


def _outcome(wish: Wish) -> Confirmation:
    study, again = find(wish.study), find(wish.named)
    objective, direction = next(iter(study.objectives.items()))
    of = {_key(trial.params): trial for trial in again.trials}
    found = []
    for leader in to_confirm(study, wish.top):
        trial = of.get(_key(leader.params))
        complete = trial is not None and trial.state is TrialState.COMPLETE
        found.append(
            Again(
                trial=leader.number,
                reported=leader.values[objective],
                results=fold_results(again, trial.number, objective) if trial and complete else {},
                reason="" if trial is None or complete else f"{trial.state.label}: {trial.reason}",
            )
        )
    return confirmed(found, direction)


def _as_data(wish: Wish, found: Confirmation, objective: str) -> dict[str, Any]:
    """The confirmation in plain JSON types."""
    rows = [
        {
            "trial": leader.trial,
            "reported": leader.reported,
            "mean": leader.mean,
            "std": leader.spread,
            "results": list(leader.results.values()),
            "reason": leader.reason,
            **_interval(found, leader.trial),
        }
        for leader in found.leaders
    ]
    data = {
        "study": wish.named,
        "objective": objective,
        "seeds": found.seeds,
        "verdict": found.verdict,
        "trial": found.trial,
        "sentence": found.sentence() + _broken(wish, found),
        "trials": rows,
    }
    return dict(finite(data))


def _broken(wish: Wish, found: Confirmation) -> str:
    """What to say of the study's bounds that the trial to take breaks on fresh seeds; mostly nothing."""
    study, again = find(wish.study), find(wish.named)
    if found.trial is None:
        return ""
    key = _key(study.trials[found.trial].params)
    trial = next(trial for trial in again.trials if _key(trial.params) == key)
    known = {**trial.metrics, **trial.values}
    bounds = [OutcomeConstraint.of(text) for text in study.state.settings.outcome_constraints]
    broken = [bound for bound in bounds if bound.excess(known.get(bound.metric, math.nan)) > 0.0]
    said = [
        f"its {bound.metric} is {number_text(known[bound.metric])} there, which breaks {bound}"
        for bound in broken
    ]
    return "".join(f"; {words}" for words in said)


def _interval(found: Confirmation, trial: int) -> dict[str, float]:
    by = found.differences.get(trial)
    return {} if by is None else {"better_by": by.gain, "low": by.low, "high": by.high}


def _keep(wish: Wish, data: dict[str, Any]) -> None:
    """Note the verdict in both studies, and in their runs and reports in MLflow where those can be had.

    Where they cannot, the next command that brings MLflow up to date does so.
    """
    by = {
        "study": wish.named,
        "study_id": find(wish.named).created.study_id,
        "winner": data["trials"][0]["trial"],
    }
    tags = {CONFIRMATION: data["sentence"], CONFIRMED_BY: json.dumps(by, ensure_ascii=False)}
    _note(wish, wish.study, CONFIRMED, data, tags)
    verdict = {"study": wish.study, "sentence": data["sentence"]}
    _note(wish, wish.named, CONFIRMS, verdict, {VERDICT: data["sentence"]})


def _note(wish: Wish, name: str, topic: str, data: dict[str, Any], tags: dict[str, str]) -> None:
    """Unless it is the newest of its topic already."""
    with opened(name) as study:
        if newest(study, topic) == data:
            return
        # The topic last: what is interrupted in between is noted anew.
        study.note("tags", {"tags": tags}, now=time.time())
        study.note(topic, data, now=time.time())
        if not newest(study, TRACKING).get("run_id"):
            return
        renew_report(study, study_folder(name))
        with contextlib.suppress(HpoError):
            uri = tracking_of(study, (wish.terms or {}).get("tracking_uri"))
            tracker = tracker_of(study, uri)
            tracker.start()
            tracker.close(_DELIVER_SECONDS)


def results_table(found: Confirmation) -> tuple[Sequence[str], list[list[str]]]:
    """Columns and rows for people."""
    fresh = f"on {found.seeds} fresh seeds" if found.seeds else "on fresh seeds"
    than = f"better than {found.winner.trial} by"
    columns = ("trial", "reported", fresh, *((than, "interval") if found.differences else ()))
    rows = []
    for leader in found.leaders:
        result = f"{leader.mean:.4g} ± {leader.spread:.2g}" if leader.results else "failed"
        by = found.differences.get(leader.trial)
        compared = ["", ""] if by is None else [f"{by.gain:+.3g}", f"{by.low:+.3g} to {by.high:+.3g}"]
        rows.append([str(leader.trial), f"{leader.reported:.4g}", result, *compared][: len(columns)])
    return columns, rows
