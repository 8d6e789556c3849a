"""A PyTorch training loop that can be interrupted: a step is one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flows._saving import Saving
from flows.callbacks._optimizers import keep_own, made_with
from flows.callbacks._trial import Trial
from hpo_core import InputError
from hpo_core.inner import check_whole

__all__ = ["epochs"]

_OPTIONS, _GENERATOR = "options", "generator"


def epochs(trial: Trial, n: int, **states: Any) -> Iterator[int]:
    """Epoch numbers up to ``n``, from 1 or from after the checkpoint; report each in the loop's body.

    ``states``: whatever has ``state_dict`` and ``load_state_dict``: ``model=``, ``optimizer=``,
    ``scheduler=``. They are loaded from the checkpoint and saved when the trial is interrupted, with the
    state of torch's random generator on the CPU, so that a resumed trial draws there what an unbroken one
    would; what is drawn on a GPU, such as dropout, is not the same. Where an optimizer or a scheduler was
    made with other settings than the checkpoint's was (a fork's learning rate), its own hold: a rate as far
    along its schedule as the checkpoint's.
    """
    import torch

    check_whole("n", n)
    for name, thing in states.items():
        if not (hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")):
            raise InputError(
                f"epochs() saves what has a state_dict, and {name}={type(thing).__name__} has none; save it "
                "yourself with trial.save"
            )
    own = {name: made_with(thing) for name, thing in states.items()}

    def content() -> dict[str, Any]:
        return {
            "states": {name: thing.state_dict() for name, thing in states.items()},
            _OPTIONS: own,
            _GENERATOR: torch.get_rng_state(),
        }

    if trial.checkpoint is not None:
        saved = trial.checkpoint.load()
        for name, thing in states.items():
            thing.load_state_dict(saved["states"][name])
        keep_own((thing, own[name], saved[_OPTIONS][name]) for name, thing in states.items())
        torch.set_rng_state(saved[_GENERATOR])
    saving, done = Saving(trial, content), 0
    for step in trial.steps(n):
        yield step
        done = step
        saving.passed(step, n)
    saving.ended(done, n)
