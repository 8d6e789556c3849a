"""The report on sampler benchmarks: tables in Markdown, a summary CSV and a plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._regret import Estimate, Runs, common_problems, mean_rank, ratio, regret
from benchmarks._report import markdown, new_figure, save_figure

__all__ = ["label", "report"]

Row = Mapping[str, str]

_SHOWN = (10, 25, 50, 100, 200)
# A slow peer is run on some of the problems only, and must not shrink the table of all the others.
_COVERAGE = 0.8


@dataclass(frozen=True, kw_only=True)
class Table:
    """The main table: optimisers, best first, over the problems that all of them were run on.

    ``times`` are processor milliseconds per trial and over the last ten trials.
    """

    problems: Sequence[str]
    estimates: Mapping[str, Estimate]
    ranks: Mapping[str, Estimate]
    times: Mapping[str, tuple[float, float]]


def label(row: Row) -> str:
    """How an optimiser is called in a report: its name, with the workers where there are several."""
    return row["optimiser"] + ("" if row["workers"] == "1" else f"@{row['workers']}")


def report(rows: Sequence[Row], against: Sequence[str], path: Path) -> str:
    """Tables over ``rows``, all with the same number of trials; ``path`` gets the plot and summary.

    The main table is over the problems that every optimiser was run on; each ratio is over those
    that its own two were run on.
    """
    if not rows:
        return "nothing measured yet"
    kept = [c for c in rows[0] if c[0] == "r" and c[1:].isdigit() and rows[0][c]]
    checkpoints = sorted(int(c[1:]) for c in kept)
    shown = [i for i, n in enumerate(checkpoints) if n in _SHOWN]
    runs = _runs(rows, checkpoints)
    optimisers = sorted({o for o, _ in runs})
    leading = _widely_run(runs, optimisers)
    problems = common_problems(runs, leading)
    parts = []
    if problems:
        estimates = {o: regret(runs, o, problems) for o in leading}
        leading.sort(key=lambda o: estimates[o].value[-1])
        table = Table(
            problems=problems,
            estimates={o: estimates[o] for o in leading},
            ranks=dict(zip(leading, mean_rank(runs, leading, problems), strict=True)),
            times={o: _milliseconds(rows, o, problems) for o in leading},
        )
        parts.append(_main_table(table, runs, checkpoints, shown))
        _summary(path.with_name(path.name + "-summary.csv"), table, checkpoints)
        _plot(path.with_name(path.name + ".png"), table, checkpoints, rows[-1])
    else:
        parts.append("no problem was run by every optimiser: restrict --problems or --only")
    left_out = [o for o in optimisers if o not in leading]
    if left_out:
        parts.append(f"Run on too few problems for this table: {', '.join(left_out)}")
    optimisers = [*leading, *left_out]
    parts.append(_ratio_table(rows, runs, optimisers, against, shown, checkpoints))
    parts.append(_family_table(runs, optimisers, checkpoints))
    return "\n\n".join(p for p in parts if p)


def _widely_run(runs: Runs, optimisers: Sequence[str]) -> list[str]:
    """Those run on at least ``_COVERAGE`` of the problems; the main table is over what they share."""
    every = {p for _, p in runs}
    counts = {o: sum(1 for name, _ in runs if name == o) for o in optimisers}
    return [o for o in optimisers if counts[o] >= _COVERAGE * len(every)]


def _runs(rows: Sequence[Row], checkpoints: Sequence[int]) -> Runs:
    gathered: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows:
        gathered.setdefault((label(row), row["problem"]), []).append(
            [float(row[f"r{n}"]) for n in checkpoints]
        )
    return {key: np.array(values) for key, values in gathered.items()}


def _milliseconds(rows: Sequence[Row], optimiser: str, problems: Sequence[str]) -> tuple[float, float]:
    """Processor milliseconds per trial, and over the last ten trials: medians over the runs."""
    own = [r for r in rows if label(r) == optimiser and r["problem"] in problems]
    return (
        float(np.median([float(r["ms_per_trial"]) for r in own])),
        float(np.median([float(r["ms_at_end"]) for r in own])),
    )


def _main_table(table: Table, runs: Runs, checkpoints: Sequence[int], shown: Sequence[int]) -> str:
    names = [str(checkpoints[i]) for i in shown]
    header = ["optimiser", *names, f"95 % interval at {names[-1]}", *[f"rank {n}" for n in names],
              "ms per trial", "ms at the end", "seeds"]  # fmt: skip
    lines = []
    for o in table.estimates:
        last = shown[-1]
        seeds = sorted({len(runs[o, p]) for p in table.problems})
        lines.append(
            [
                o,
                *[f"{table.estimates[o].value[i]:.4f}" for i in shown],
                f"{table.estimates[o].low[last]:.4f} - {table.estimates[o].high[last]:.4f}",
                *[f"{table.ranks[o].value[i]:.1f}" for i in shown],
                *[f"{t:.3g}" for t in table.times[o]],
                "-".join(str(s) for s in sorted({seeds[0], seeds[-1]})),
            ]
        )
    title = f"Geometric mean of normalised regret over {len(table.problems)} problems, at N trials"
    return f"{title}\n\n{markdown(header, lines)}"


def _ratio_table(
    rows: Sequence[Row],
    runs: Runs,
    optimisers: Sequence[str],
    against: Sequence[str],
    shown: Sequence[int],
    checkpoints: Sequence[int],
) -> str:
    lines = []
    for reference in (r for r in against if r in optimisers):
        for o in (o for o in optimisers if o != reference):
            problems = common_problems(runs, [o, reference])
            if problems:
                found = ratio(runs, o, reference, problems)
                figures = [f"{found.value[i]:.2f} ({found.low[i]:.2f} - {found.high[i]:.2f})" for i in shown]
                time = _milliseconds(rows, o, problems)[0] / _milliseconds(rows, reference, problems)[0]
                lines.append([f"{o} / {reference}", str(len(problems)), *figures, f"{time:.3g}"])
    if not lines:
        return ""
    header = ["ratio of regrets", "problems", *[str(checkpoints[i]) for i in shown], "of time"]
    return f"Below 1: better than the reference\n\n{markdown(header, lines)}"


def _family_table(runs: Runs, optimisers: Sequence[str], checkpoints: Sequence[int]) -> str:
    """Regret at the last checkpoint by family of problems, over what each optimiser was run on."""
    families = sorted({p.split("-")[0] for _, p in runs})
    if len(families) < 2:
        return ""
    lines = []
    for o in optimisers:
        cells = []
        for family in families:
            own = [runs[o, p][:, -1] for name, p in runs if name == o and p.split("-")[0] == family]
            cells.append(f"{np.exp(np.mean([np.log(x).mean() for x in own])):.4f}" if own else "")
        lines.append([o, *cells])
    title = f"By family of problems, at {checkpoints[-1]} trials"
    return f"{title}\n\n{markdown(['optimiser', *families], lines)}"


def _summary(path: Path, table: Table, checkpoints: Sequence[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["regret", "regret_low", "regret_high", "rank", "rank_low", "rank_high"]
        writer.writerow(["optimiser", "trials", *columns, "ms_per_trial", "ms_at_end"])
        for o, estimate in table.estimates.items():
            for i, n in enumerate(checkpoints):
                both = (estimate, table.ranks[o])
                figures = [x for e in both for x in (e.value[i], e.low[i], e.high[i])]
                writer.writerow([o, n, *[f"{x:.4g}" for x in (*figures, *table.times[o])]])


def _plot(path: Path, table: Table, checkpoints: Sequence[int], marks: Row) -> None:
    figure, (left, right) = new_figure(2)
    for o, estimate in table.estimates.items():
        (line,) = left.plot(checkpoints, estimate.value, marker=".", label=o)
        colour = line.get_color()
        left.fill_between(checkpoints, estimate.low, estimate.high, color=colour, alpha=0.08)
        spot = (table.times[o][0], estimate.value[-1])
        right.plot(*spot, "o", color=colour)
        right.annotate(o, spot, fontsize=7, xytext=(4, 3), textcoords="offset points")
    left.set(
        xscale="log",
        yscale="log",
        xlabel="finished trials",
        ylabel="normalised regret of the incumbent",
        title=f"geometric mean over {len(table.problems)} problems, 95 % interval",
    )
    left.minorticks_off()
    left.set_xticks(checkpoints, [str(n) for n in checkpoints], fontsize=7)
    left.legend(fontsize=7)
    right.set(
        xscale="log",
        yscale="log",
        xlabel="processor time per trial, ms",
        ylabel=f"regret at {checkpoints[-1]} trials",
        title="quality and cost",
    )
    save_figure(figure, path, marks)
