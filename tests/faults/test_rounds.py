"""Rounds of faults at random moments; `make faults` runs thirty of them and more.

``HPO_FAULTS`` is how many rounds, ``HPO_FAULTS_SEED`` the first one's seed.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.checks import check_whole
from tests.faults.conftest import MakeDriver
from tests.faults.mischief import mischief

ROUNDS = int(os.environ.get("HPO_FAULTS", "1"))
FIRST = int(os.environ.get("HPO_FAULTS_SEED", "0"))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
def test_a_study_outlives_random_faults(seed: int, make_driver: MakeDriver) -> None:
    rng = random.Random(seed)
    strategy = rng.choice(["random", "tpe", "asha"])
    driver = make_driver(strategy=strategy, max_steps=6, workers=rng.choice([1, 2, 3]))
    done = mischief(driver, rng, faults=2)
    print(f"seed {seed}: {strategy}, {', '.join(done)}")
    driver.finish()
    check_whole(driver)
