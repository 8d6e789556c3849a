"""Figures of a study, as plotly figures: ``from hpo_core import plots; plots.history(study).show()``.

Every function takes a :class:`Study` and raises :class:`InputError` where the study has nothing for it
to show. Large studies are thinned; the best trials and the Pareto front always stay. Colours work on
light and on dark pages. Plotly is imported when the first figure is made.
"""

from __future__ import annotations

from hpo_core.plots._compare import compare as compare
from hpo_core.plots._course import curves as curves
from hpo_core.plots._course import failures as failures
from hpo_core.plots._course import lineage as lineage
from hpo_core.plots._course import rungs as rungs
from hpo_core.plots._course import timeline as timeline
from hpo_core.plots._relations import correlation as correlation
from hpo_core.plots._relations import rank as rank
from hpo_core.plots._schedule import schedule as schedule
from hpo_core.plots._space import contour as contour
from hpo_core.plots._space import parallel_coordinates as parallel_coordinates
from hpo_core.plots._space import slices as slices
from hpo_core.plots._values import history as history
from hpo_core.plots._values import importance as importance
from hpo_core.plots._values import pareto as pareto

__all__ = [
    "compare", "contour", "correlation", "curves", "failures", "history", "importance", "lineage",
    "parallel_coordinates", "pareto", "rank", "rungs", "schedule", "slices", "timeline",
]  # fmt: skip
