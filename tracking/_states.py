"""How the states of trials and studies look in MLflow: the one table.

| state of the trial (tag ``hpo.state``)    | status of its run | why                                    |
|-------------------------------------------|-------------------|----------------------------------------|
| waiting, running, paused (driver alive)   | RUNNING           | somebody still owns it                 |
| waiting, running, paused (driver is gone) | KILLED            | nothing stays RUNNING after its driver |
| complete                                  | FINISHED          | the only state that is a success       |
| pruned                                    | KILLED            | stopped on purpose, not a success      |
| cancelled                                 | KILLED            | somebody said so                       |
| failed, infeasible, timed_out,            | FAILED            | the tag says which                     |
| out_of_memory, lost                       |                   |                                        |

A study's run is RUNNING while a driver lives, FINISHED once its plan is done, KILLED when it was
cancelled or suspended (``hpo.state`` says which), FAILED when too many trials failed or none is complete.
"""

from __future__ import annotations

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"

TRIAL_STATUS: dict[str, str] = {
    "complete": FINISHED,
    "pruned": KILLED,
    "cancelled": KILLED,
    "failed": FAILED,
    "infeasible": FAILED,
    "timed_out": FAILED,
    "out_of_memory": FAILED,
    "lost": FAILED,
}

STUDY_STATUS: dict[str, str] = {
    "finished": FINISHED,
    "failed": FAILED,
    "cancelled": KILLED,
    "suspended": KILLED,
}


def study_status(state: str | None) -> str:
    """The status of the study's run; ``None`` is a study that is open and has a driver."""
    return RUNNING if state is None else STUDY_STATUS.get(state, FAILED)
