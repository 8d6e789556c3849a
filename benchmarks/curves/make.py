"""Train every configuration of the learning-curve benchmark and keep its curve.

python -m benchmarks.curves.make [lgbm-wine ...]
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

# Before numpy is imported: times are those of one thread.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import stamp
from benchmarks.curves import DATA, LEVELS, STEPS, configurations
from benchmarks.curves._train import TABLES, Array, curve, table

# Bits of the mantissa that are kept: losses to 1 part in 16,000, times to 1 in 250; the rest would
# only be noise that does not compress.
_LOSS_BITS, _TIME_BITS = 13, 7


def rounded(values: Array, bits: int) -> NDArray[np.float32]:
    """The values as float32, rounded to so many bits of mantissa."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent).astype(np.float32)


def make(name: str, most: int | None = None) -> dict[str, NDArray[Any]]:
    """Losses and seconds of every configuration, or of the first ``most``, of a benchmark."""
    learner, _, title = name.partition("-")
    data, found = table(title), configurations(learner)[:most]
    runs = [curve(learner, data, params, STEPS, seed) for seed, params in enumerate(found)]
    return {
        "loss": rounded(np.array([losses for losses, _ in runs]), _LOSS_BITS),
        "seconds": rounded(np.array([seconds for _, seconds in runs]), _TIME_BITS),
    }


def main(names: list[str]) -> None:
    """Make the named benchmarks, or all, and say what they cost."""
    DATA.mkdir(exist_ok=True)
    for name in names or [f"{learner}-{title}" for learner in LEVELS for title in TABLES]:
        start = time.process_time()
        made = make(name)
        marks = np.array(json.dumps(stamp(("numpy", "scikit-learn", "lightgbm"))))
        np.savez_compressed(DATA / f"{name}.npz", loss=made["loss"], seconds=made["seconds"], stamp=marks)
        size = (DATA / f"{name}.npz").stat().st_size / 2**20
        print(
            f"{name}: {len(made['loss'])} configurations, {time.process_time() - start:.0f} s of one core, "
            f"{size:.2f} MiB, losses {np.nanmin(made['loss']):.4g} to {np.nanmax(made['loss']):.4g}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
