"""The study's summary as a Prefect artifact, beside the flow run that carried it out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from flows._named import study_name
from flows._words import counted
from hpo_core import Study, TrialState
from hpo_core.inner import choice_text, leaders
from tracking import duration, markdown_cell, markdown_table, number_text

# A server that does not answer must not keep a study that is done.
_SECONDS = 5.0
_ROWS = 10


async def publish(fields: Mapping[str, Any]) -> None:
    """Make or replace the artifact of the study; what goes wrong is nobody's business but Prefect's.

    ``fields``: those of :class:`flows.Result`.
    """
    from prefect.artifacts import acreate_markdown_artifact

    study: Study = fields["study"]
    made = acreate_markdown_artifact(
        key=artifact_key(study.name),
        markdown=markdown(study, fields.get("run_url"), str(fields["ended"])),
        description=f"Study {study.name}",
    )
    try:
        await asyncio.wait_for(made, _SECONDS)
    except Exception:  # noqa: BLE001 - a decoration: the study and its MLflow runs say all of it
        return


def artifact_key(study: str) -> str:
    """Prefect's keys have small letters, digits and dashes; a name with others is told apart by its hash."""
    legal = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    return f"study-{legal}" if legal == study else study_name(f"study-{legal}", study)


def markdown(study: Study, url: str | None, ended: str) -> str:
    """What a reader of the flow run wants to know: how it ended, the leaders, where to see more."""
    spent = duration(study.state.seconds_spent)
    lines = [f"**{markdown_cell(study.name)}**: {counted(study)} in {spent} ({markdown_cell(ended)})", ""]
    if study.history.count(TrialState.COMPLETE):
        objectives = list(study.objectives)
        trials = [study.trials[n] for n in leaders(study.history)[:_ROWS].tolist()]
        names = list(dict.fromkeys(name for trial in trials for name in trial.params))
        header = ["trial", *objectives, "seconds", *names]
        rows = []
        for trial in trials:
            scores = [number_text(trial.values[objective]) for objective in objectives]
            params = [_value(trial.params[name]) if name in trial.params else "" for name in names]
            rows.append([str(trial.number), *scores, f"{trial.busy_seconds:.1f}", *params])
        lines += [*markdown_table(header, rows), ""]
    if url:
        lines.append(f"[The study in MLflow]({url})")
    return "\n".join(lines)


def _value(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else choice_text(value)
