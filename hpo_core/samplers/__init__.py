"""Samplers: which configuration to try next. One algorithm a file, pure in the history."""

from __future__ import annotations

from hpo_core.samplers._auto import Auto
from hpo_core.samplers._cmaes import CMAES
from hpo_core.samplers._forest import Forest
from hpo_core.samplers._gp import GP
from hpo_core.samplers._grid import Grid
from hpo_core.samplers._nsga2 import NSGA2
from hpo_core.samplers._qmc import Halton, Sobol
from hpo_core.samplers._random import Random
from hpo_core.samplers._tpe import TPE

__all__ = ["CMAES", "GP", "NSGA2", "TPE", "Auto", "Forest", "Grid", "Halton", "Random", "Sobol"]
