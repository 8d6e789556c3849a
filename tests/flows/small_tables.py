"""Small tables of every kind for the tests of data and objectives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def mixed(n: int = 160, task: str = "binary", seed: int = 0) -> pd.DataFrame:
    """Numbers, missing values, categories, a flag, dates, a group and a time column; ``y`` can be learned."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    colour = rng.choice(["red", "green", "blue"], n)
    flag = rng.random(n) < 0.5
    signal = a + 1.5 * (colour == "red") - flag + 0.3 * rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "a": np.where(rng.random(n) < 0.15, np.nan, a),
            "b": b,
            "colour": pd.Series(colour).mask(rng.random(n) < 0.1, None),
            "flag": flag,
            "when": (pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 365, n), "D")).astype(str),
            "person": rng.integers(0, n // 5, n),
            "order": rng.permutation(n),
        }
    )
    if task == "binary":
        frame["y"] = np.where(signal > 0.3, "yes", "no")
    elif task == "multiclass":
        frame["y"] = np.array(["low", "mid", "top"])[np.digitize(signal, [-0.3, 0.9])]
    else:
        frame["y"] = 10 + 3 * signal
    return frame


def written(folder: Path, frame: pd.DataFrame, name: str = "table.csv") -> str:
    """The path of the frame as CSV or Parquet."""
    path = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if name.endswith(".tsv") else ",")
    return str(path)
