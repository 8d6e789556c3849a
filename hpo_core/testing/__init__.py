"""The conformance suite: what every sampler and scheduler must do, shipped so that yours can be held to it.

from hpo_core.testing import check_sampler, check_scheduler

def test_my_sampler():
    check_sampler(MySampler)                            # anything that makes a fresh one

def test_my_scheduler():
    check_scheduler(lambda: MyScheduler(eta=4))

Each check raises :class:`AssertionError` saying what was expected, what came, and on which space. The class
must be importable by name, for a study is resumed from a journal that holds its name and options alone.
:func:`check_replay` holds a whole strategy, given as a study takes it, to the replay contract.
"""

from __future__ import annotations

from hpo_core.testing._replay import check_replay, check_replays
from hpo_core.testing._samplers import check_sampler
from hpo_core.testing._schedulers import check_scheduler
from hpo_core.testing._script import Recorder, Script
from hpo_core.testing._spaces import SPACES

__all__ = [
    "SPACES",
    "Recorder",
    "Script",
    "check_replay",
    "check_replays",
    "check_sampler",
    "check_scheduler",
]
