"""Constraints on outcomes: how soon a search finds what keeps them, and how good it is.

    ~/peers/bin/python -m benchmarks.constraints --seeds 10

Three problems of the literature and one of our own, with known optima. An objective and its constraints
are measured together. ``auto (told only)`` hears that a trial is infeasible and not by how much. Optuna's
samplers get the same amounts by ``constraints_func``. The score is the gap between the best objective that
kept all bounds and the optimum, over the optimum; the table has the median of the seeds.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks import _report as records
from hpo_core import Float, Study

OUT = records.RESULTS / "constraints.csv"
AT = (15, 30, 60)
KEY = ("problem", "method", "seed")
COLUMNS = (*KEY, *(f"gap{k}" for k in AT), "kept", *records.STAMP_COLUMNS)
Point = Mapping[str, float]


@dataclass(frozen=True)
class Problem:
    """``measure``: the objective, and what must not be above 0, at a point of ``space`` (lower, upper)."""

    space: Mapping[str, tuple[float, float]]
    measure: Callable[[Point], tuple[float, list[float]]]
    optimum: float


def _gramacy(p: Point) -> tuple[float, list[float]]:
    """Gramacy et al. (2016), "Modeling an Augmented Lagrangian for Blackbox Constrained Optimization"."""
    x, y = p["x"], p["y"]
    wave = 1.5 - x - 2 * y - 0.5 * math.sin(2 * math.pi * (x * x - 2 * y))
    return x + y, [wave, x * x + y * y - 1.5]


def _ball(p: Point) -> tuple[float, list[float]]:
    """A ball that has 0.5 % of the cube; the best point is on its border. Our own."""
    values = list(p.values())
    outside = math.dist(values, [0.35] * len(values)) - 0.25
    return sum((v - 0.9) ** 2 for v in values), [outside]


def _beam(p: Point) -> tuple[float, list[float]]:
    """The welded beam as in Coello (2000), "Use of a self-adaptive penalty approach", example 1."""
    h, w, t, b = p["h"], p["l"], p["t"], p["b"]
    load, length, young, shear = 6000.0, 14.0, 30e6, 12e6
    direct = load / (math.sqrt(2) * h * w)
    arm = math.sqrt(w * w / 4 + ((h + t) / 2) ** 2)
    polar = 2 * math.sqrt(2) * h * w * (w * w / 12 + ((h + t) / 2) ** 2)
    torsion = load * (length + w / 2) * arm / polar
    stress = math.sqrt(direct**2 + direct * torsion * w / arm + torsion**2)
    bending = 6 * load * length / (b * t * t)
    deflection = 4 * load * length**3 / (young * t**3 * b)
    slender = 4.013 * young * math.sqrt(t * t * b**6 / 36) / length**2
    buckling = slender * (1 - t / (2 * length) * math.sqrt(young / (4 * shear)))
    cost = 1.10471 * h * h * w + 0.04811 * t * b * (14 + w)
    return cost, [stress - 13600, bending - 30000, h - b, deflection - 0.25, load - buckling]


def _spring(p: Point) -> tuple[float, list[float]]:
    """The tension spring of the same, example 3."""
    d, w, n = p["d"], p["w"], p["n"]
    shear = (4 * w * w - d * w) / (12566 * (w * d**3 - d**4)) + 1 / (5108 * d * d) - 1
    return (n + 2) * w * d * d, [
        1 - w**3 * n / (71785 * d**4), shear, 1 - 140.45 * d / (w * w * n), (w + d) / 1.5 - 1,
    ]  # fmt: skip


PROBLEMS: dict[str, Problem] = {
    "gramacy": Problem({"x": (0, 1), "y": (0, 1)}, _gramacy, 0.5998),
    "ball": Problem({f"x{i}": (0, 1) for i in range(5)}, _ball, (0.55 * math.sqrt(5) - 0.25) ** 2),
    "beam": Problem({"h": (0.1, 2), "l": (0.1, 10), "t": (0.1, 10), "b": (0.1, 2)}, _beam, 1.7249),
    "spring": Problem({"d": (0.05, 0.2), "w": (0.25, 1.3), "n": (2, 15)}, _spring, 0.012665),
}


def ours(problem: Problem, strategy: str, seed: int, *, told: bool) -> Iterator[tuple[float, list[float]]]:
    """What each trial measured. ``told``: how much it breaks the constraints by, not only that it does."""
    space = {name: Float(*bounds) for name, bounds in problem.space.items()}
    count = len(problem.measure({n: sum(b) / 2 for n, b in problem.space.items()})[1])
    settings = {"outcome_constraints": [f"c{i} <= 0" for i in range(count)]} if told else {}
    study = Study(space, strategy=strategy, seed=seed, settings=settings)
    while True:
        trial = study.ask()
        loss, excess = problem.measure(trial.params)
        if told:
            study.tell(trial, {"loss": loss, **{f"c{i}": e for i, e in enumerate(excess)}})
        elif max(excess) > 0:
            study.tell(trial, state="infeasible")
        else:
            study.tell(trial, loss)
        yield loss, excess


def optuna(problem: Problem, sampler: str, seed: int) -> Iterator[tuple[float, list[float]]]:
    """The same by Optuna, whose samplers take the amounts from a function."""
    import optuna as library

    library.logging.set_verbosity(library.logging.ERROR)

    def constraints(trial: Any) -> list[float]:
        return list(trial.user_attrs["excess"])

    made = getattr(library.samplers, sampler)(seed=seed, constraints_func=constraints)
    study = library.create_study(sampler=made)
    while True:
        trial = study.ask()
        point = {name: trial.suggest_float(name, *bounds) for name, bounds in problem.space.items()}
        loss, excess = problem.measure(point)
        trial.set_user_attr("excess", excess)
        study.tell(trial, loss)
        yield loss, excess


METHODS: dict[str, Callable[[Problem, int], Iterator[tuple[float, list[float]]]]] = {
    "random": lambda p, s: ours(p, "random", s, told=True),
    "auto": lambda p, s: ours(p, "auto", s, told=True),
    "tpe": lambda p, s: ours(p, "tpe", s, told=True),
    "forest": lambda p, s: ours(p, "forest", s, told=True),
    "cmaes": lambda p, s: ours(p, "cmaes", s, told=True),
    "nsga2": lambda p, s: ours(p, "nsga2", s, told=True),
    "auto (told only)": lambda p, s: ours(p, "auto", s, told=False),
    "tpe (told only)": lambda p, s: ours(p, "tpe", s, told=False),
    "optuna-tpe": lambda p, s: optuna(p, "TPESampler", s),
    "optuna-gp": lambda p, s: optuna(p, "GPSampler", s),
    "optuna-nsga2": lambda p, s: optuna(p, "NSGAIISampler", s),
}


def measure(name: str, method: str, seed: int) -> dict[str, Any]:
    """One run, as a row without the stamp."""
    problem = PROBLEMS[name]
    run = METHODS[method](problem, seed)
    found = [next(run) for _ in range(max(AT))]
    kept = [loss if max(excess) <= 0 else math.inf for loss, excess in found]
    best = list(accumulate(kept, min))
    gaps = {f"gap{k}": f"{max(best[k - 1] / problem.optimum - 1, 0.0):.4g}" for k in AT}
    return {"problem": name, "method": method, "seed": seed, **gaps, "kept": sum(map(math.isfinite, kept))}


def report(rows: Sequence[Mapping[str, str]]) -> str:
    """Median gaps by problem, and how many trials kept the bounds."""
    parts = []
    for name in PROBLEMS:
        lines = []
        for method in METHODS:
            own = [r for r in rows if (r["problem"], r["method"]) == (name, method)]
            if not own:
                continue
            gaps = [statistics.median(float(r[f"gap{k}"]) for r in own) for k in AT]
            kept = statistics.median(int(r["kept"]) for r in own)
            shown = [f"{g:.3g}" if math.isfinite(g) else "-" for g in gaps]
            lines.append([method, *shown, f"{kept:g}", str(len(own))])
        head = [name, *(f"gap after {k}" for k in AT), f"of {max(AT)} kept", "seeds"]
        parts.append(records.markdown(head, lines))
    return "\n\n".join(parts)


def plot(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """The median gap at the end, by problem and method."""
    figure, axes = records.new_figure(len(PROBLEMS))
    for axis, name in zip(axes, PROBLEMS, strict=True):
        shown = {}
        for method in METHODS:
            own = [float(r[f"gap{AT[-1]}"]) for r in rows if (r["problem"], r["method"]) == (name, method)]
            if own and math.isfinite(middle := statistics.median(own)):
                shown[method] = max(middle, 1e-5)
        axis.barh(list(shown)[::-1], list(shown.values())[::-1])
        axis.set_xscale("log")
        axis.set_title(f"{name}: median gap after {AT[-1]} trials", fontsize=10)
    records.save_figure(figure, path, rows[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep the rows, print the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.constraints", description=__doc__)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    marks = records.stamp(("numpy", "scipy", "scikit-learn", "optuna"))
    for method in options.methods.split(","):
        for name in options.problems.split(","):
            for seed in range(options.seeds):
                records.append_row(options.out, COLUMNS, {**measure(name, method, seed), **marks})
    records.compact(options.out, KEY, lambda r: (r["problem"], r["method"], int(r["seed"])))
    rows = records.read_rows(options.out, KEY)
    print(report(rows))
    plot(rows, options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
