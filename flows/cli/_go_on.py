"""Go on with a study, with the terms it was started with or with higher limits."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import typer

from flows._again import fetched, limit_of, plan_of, raised, run_again
from flows._find import find
from flows.cli._tune import carry_out
from hpo_core import InputError
from hpo_core.inner import BAD


def resume(name: str, *, as_json: bool, **terms: Any) -> int:
    """See ``hpo resume``; ``terms`` change the request, as ``offline`` and ``tracking_uri`` do."""
    if line := fetched(name, terms.get("tracking_uri"), terms.get("experiment")):
        typer.echo(line, err=True)
    return carry_out(plan_of(find(name), **terms), as_json=as_json)


def extend(name: str, totals: Mapping[str, float | None], *, as_json: bool, **terms: Any) -> int:
    """See ``hpo extend``; ``totals``: the new limits by what a request calls them."""
    if all(total is None for total in totals.values()):
        options = ", ".join(f"--{total.replace('_', '-')}" for total in totals)
        raise InputError(f"extend needs a new limit, one of {options}")
    study = find(name)
    for limit, new in totals.items():
        if new is not None and (old := limit_of(study, limit)) is not None and new <= old:
            over = study.stopped is not None and not study.stopped.resumable
            remedy = "" if over else f", or go on as it is with `hpo resume {shlex.quote(name)}`"
            raise InputError(
                f"study {name!r} has {limit} {old:g} already; give more than that, got {new:g}{remedy}"
            )
    return carry_out(plan_of(study, **terms, **raised(study, totals)), as_json=as_json)


def retry(name: str, failed: bool, trials: list[int], *, as_json: bool, **terms: Any) -> int:
    """See ``hpo retry``."""
    if not failed and not trials:
        raise InputError("retry needs --failed, or --trial N")
    study = find(name)
    plan = plan_of(study, **terms)
    bad = {trial.number for trial in study.trials if trial.state in BAD}
    lacking = ", ".join(str(number) for number in trials if number not in bad)
    if lacking or not bad:
        there = f"; `hpo show {shlex.quote(name)}` lists those that did" if bad else ""
        raise InputError(
            f"study {name!r} has no trial {f'{lacking} ' * bool(lacking)}that ended badly{there}"
        )
    count = run_again(plan, wanted=lambda number: failed or number in trials)
    typer.echo(f"{count} trial{'s' if count > 1 else ''} will run once more", err=as_json)
    return carry_out(plan, as_json=as_json)
