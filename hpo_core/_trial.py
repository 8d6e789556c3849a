"""The trial that an ask / tell user holds, and the define-by-run part that every trial shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpo_core._domain import check_name
from hpo_core._errors import SpaceError
from hpo_core._parameters import Categorical, Float, Int, Parameter

# Keeps the stream for newly discovered parameters apart from the samplers' streams.
_SUGGEST_STREAM = 0x5067
# Keeps the seeds of repeats apart from those of trials.
_REPEAT_STREAM = 0x2E9EA7


def trial_seed(study_seed: int, trial: int) -> int:
    """A seed for the user's own code in this trial: a function of the study's seed and the number."""
    return int(np.random.SeedSequence([study_seed, trial]).generate_state(1)[0]) % 2**31


def repeat_seed(study_seed: int, repeat: int) -> int:
    """A seed for repeat number ``repeat``, from 1, of every trial: a function of the two and no other."""
    return int(np.random.SeedSequence([study_seed, _REPEAT_STREAM, repeat]).generate_state(1)[0]) % 2**31


class Suggestions:
    """Answers ``suggest_*`` from what was proposed, and from the prior for what is new.

    ``proposed`` is the configuration that the driver sent. A parameter that the driver has not heard
    of yet, or whose proposed value does not fit the distribution asked for, is drawn from its prior
    with the trial's own seed and the parameter's name; so no question goes over the network, and a
    repeated attempt draws the same values in whatever order it asks.
    """

    def __init__(self, proposed: Mapping[str, Any], seed: int) -> None:
        self._proposed = dict(proposed)
        self._seed = seed
        self.used: dict[str, Any] = {}
        self.found: dict[str, Parameter] = {}

    def suggest(self, name: str, parameter: Parameter) -> Any:
        """The trial's value of ``name``; asking again with the same name gives the same value.

        Raises :class:`SpaceError` when one trial asks for a name with two distributions.
        """
        check_name("a parameter's name", name)
        if name in self.found:
            if not parameter.contains(self.used[name]):
                raise SpaceError(
                    f"parameter {name!r} is {self.used[name]!r} in this trial and was asked for again as "
                    f"{parameter!r}; give the second one another name"
                )
            self.found[name] = self.found[name].widened(parameter, name)
            return self.used[name]
        if name in self._proposed and parameter.contains(self._proposed[name]):
            value = self._proposed[name]
        else:
            stream = [self._seed, _SUGGEST_STREAM, *name.encode()]
            value = parameter.decode(float(np.random.default_rng(stream).random()))
        self.found[name] = parameter
        self.used[name] = value
        return value


class Suggesting:
    """The ``suggest_*`` calls, over :class:`Suggestions`."""

    def __init__(self, suggestions: Suggestions) -> None:
        self._suggestions = suggestions

    def suggest_float(
        self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None
    ) -> float:
        """A real number in ``[low, high]``, on a log scale or a grid if asked."""
        return float(self._suggestions.suggest(name, Float(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """A whole number in ``[low, high]``."""
        return int(self._suggestions.suggest(name, Int(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of ``choices``, which are JSON values or tuples of them."""
        parameter = Categorical(choices)
        value = self._suggestions.suggest(name, parameter)
        if not isinstance(value, list | dict):
            return value
        # The caller's own object: a journal turns tuples into lists.
        place = parameter.position(value)
        assert place is not None
        return choices[place]


class Trial(Suggesting):
    """A trial to be evaluated, as :meth:`Study.ask` hands it out.

    ``number``; ``params``: the configuration; ``seed``: for the objective's own randomness;
    ``target``: the step to train to before telling (``None``: to the end); ``start_step``: the step
    that training goes on from, 0 for a fresh trial; ``parent``: the trial whose checkpoint at
    ``start_step`` a fork starts from; ``attempt`` counts from 1; ``study``: the identity of the study
    that handed it out, which takes no other's.
    """

    def __init__(
        self,
        *,
        number: int,
        params: Mapping[str, Any],
        seed: int,
        attempt: int = 1,
        target: int | None = None,
        start_step: int = 0,
        parent: int | None = None,
        study: str = "",
    ) -> None:
        self.study = study
        self._base = dict(params)
        self.number = number
        self.seed = seed
        self.attempt = attempt
        self.target = target
        self.start_step = start_step
        self.parent = parent
        super().__init__(Suggestions(params, seed))

    @property
    def params(self) -> dict[str, Any]:
        """The configuration; in a define-by-run study, what has been asked for so far."""
        return {**self._base, **self._suggestions.used}

    def __repr__(self) -> str:
        return f"Trial({self.number}, {self.params})"
