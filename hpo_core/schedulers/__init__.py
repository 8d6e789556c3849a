"""Schedulers: how far each trial runs, which are stopped, paused and promoted."""

from __future__ import annotations

from hpo_core.schedulers._asha import ASHA as ASHA
from hpo_core.schedulers._asha import ASHAStopping as ASHAStopping
from hpo_core.schedulers._full import Full as Full
from hpo_core.schedulers._halving import SuccessiveHalving as SuccessiveHalving
from hpo_core.schedulers._hyperband import Hyperband as Hyperband
from hpo_core.schedulers._levels import Levels as Levels
from hpo_core.schedulers._patience import Patience as Patience
from hpo_core.schedulers._patience import Threshold as Threshold
from hpo_core.schedulers._pbt import PBT as PBT
from hpo_core.schedulers._percentile import Median as Median
from hpo_core.schedulers._percentile import Percentile as Percentile
from hpo_core.schedulers._race import Race as Race
from hpo_core.schedulers._wilcoxon import Wilcoxon as Wilcoxon

__all__ = [
    "ASHA",
    "PBT",
    "ASHAStopping",
    "Full",
    "Hyperband",
    "Levels",
    "Median",
    "Patience",
    "Percentile",
    "Race",
    "SuccessiveHalving",
    "Threshold",
    "Wilcoxon",
]  # fmt: skip
