"""Samplers: which configuration to try next. One algorithm a file, pure in the history."""

from __future__ import annotations

from hpo_core.samplers._grid import Grid
from hpo_core.samplers._qmc import Halton, Sobol
from hpo_core.samplers._random import Random

__all__ = ["Grid", "Halton", "Random", "Sobol"]
