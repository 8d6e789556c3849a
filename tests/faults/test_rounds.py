"""Rounds of faults at random moments; `make faults` runs thirty of them and more."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.checks import check_whole
from tests.faults.conftest import MakeDriver
from tests.faults.mischief import mischief

ROUNDS = int(os.environ.get("HPO_FAULTS", "1"))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_study_outlives_random_faults(seed: int, make_driver: MakeDriver) -> None:
    rng = random.Random(seed)
    strategy = rng.choice(["random", "tpe", "asha"])
    driver = make_driver(strategy=strategy, max_steps=6, workers=rng.choice([1, 2, 3]))
    done = mischief(driver, rng, faults=2)
    print(f"seed {seed}: {strategy}, {', '.join(done)}")
    driver.finish()
    check_whole(driver)
