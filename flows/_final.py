"""The final model of a ready objective: refit, score once on held-out rows, log, register, alias."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from flows._plan import Plan
from flows._session import Session
from flows.objectives import FinalModel, TrialInfo
from hpo_core import Study, TrialRecord
from hpo_core._trial import trial_seed
from tracking import Candidate, Gate, LoggedModel, config_sha256, log_model, promote


def is_made(study: Study, register_as: str | None) -> bool:
    """Whether the study's present best trial has a final model, under that name if one is asked for."""
    best = study.best.number
    made = [n.data for n in study.state.notes if n.topic == "final_model" and n.data.get("trial") == best]
    return any(register_as is None or data.get("name") == register_as for data in made)


async def make_final_model(current: Session, plan: Plan) -> None:
    """Make the model of the study's best trial; repeating it after a crash changes nothing."""
    best = current.study.best
    info = TrialInfo(
        seed=trial_seed(current.study.created.seed, best.number),
        number=best.number,
        metrics={**current.study.history.reports.last(best.number), **best.metrics},
    )
    final = await asyncio.to_thread(plan.table.finalise, best.params, info)
    note: dict[str, Any] = {"trial": best.number, "scores": final.scores, "params": final.params}
    if current.parent_run is not None:
        note.update(await asyncio.to_thread(_show, current, plan, best, final))
    current.study.note("final_model", note)
    current.tracker.notify()


def _show(current: Session, plan: Plan, best: TrialRecord, final: FinalModel) -> dict[str, Any]:
    """Log the model to the best trial's run and the scores to the study's; register it if asked."""
    from mlflow.models import infer_signature

    connection = current.tracker.connection
    run_id = current.tracker.run_id(best.number, 60.0)
    logged = log_model(
        run_id,
        final.model,
        connection=connection,
        flavor=final.flavor,
        pip_requirements=final.requirements,
        signature=infer_signature(final.example, final.example_output),
        input_example=final.example,
        **final.log_options,
    )
    client = connection.client
    assert current.parent_run is not None
    for name, value in final.scores.items():
        client.log_metric(current.parent_run, f"test_{name}", value)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "feature_importance.csv"
        final.importance.to_csv(table, index=False)
        client.log_artifact(current.parent_run, str(table))
        client.log_dict(current.parent_run, final.contract, "model_contract.json")
    note = {"model_uri": logged.uri, "run_id": run_id}
    if plan.register_as is not None:
        note.update(_register(current, plan, best, final, logged))
    return note


def _register(
    current: Session, plan: Plan, best: TrialRecord, final: FinalModel, logged: LoggedModel
) -> dict[str, Any]:
    name = plan.register_as
    assert name is not None
    direction = next(iter(current.study.objectives.values()))
    candidate = Candidate(
        model=logged,
        scores=final.scores,
        data_digest=plan.terms.identity.get("question", ""),
        lineage={
            "hpo.study": current.study.name,
            "hpo.trial": str(best.number),
            "hpo.config_sha256": config_sha256(best.params),
            "hpo.cv_score": repr(next(iter(best.values.values()))),
        },
    )
    promotion = promote(
        current.tracker.connection,
        candidate,
        name=name,
        gate=Gate(metric=final.metric, direction=direction),
    )
    alias = f"{name}@champion is version {promotion.champion}"
    own = f"{name} version {promotion.version}"
    return {
        "model": f"{own}, {alias}: {promotion.reason}",
        "name": name,
        "version": promotion.version,
        "champion": promotion.champion,
        "promoted": promotion.promoted,
    }
