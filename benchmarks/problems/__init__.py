"""Problems to measure optimisers on: a development set to tune with, a held-out set to judge by.

>>> from benchmarks.problems import dev_problems, run
>>> for problem in dev_problems("core"):              # or "bbob5", "hpobench,cond", "*"
...     trace = run(problem, "tpe", seed=0, trials=100)
...     print(problem.name, trace.at(25), trace.at(100), trace.ask.mean())
"""

from __future__ import annotations

from benchmarks.problems._problem import REGRET_FLOOR, Params, Problem, crashing, median_of, noisy
from benchmarks.problems._run import AskTell, OurStudy, Trace, drive, noise_rng, run
from benchmarks.problems._sets import dev_problems, heldout_problems, problem, problem_names

__all__ = [
    "REGRET_FLOOR",
    "AskTell",
    "OurStudy",
    "Params",
    "Problem",
    "Trace",
    "crashing",
    "dev_problems",
    "drive",
    "heldout_problems",
    "median_of",
    "noise_rng",
    "noisy",
    "problem",
    "problem_names",
    "run",
]
