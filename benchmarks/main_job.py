"""``hpo tune lgbm`` against FLAML's and Optuna's searches for a LightGBM model, at equal wall time.

    python -m benchmarks.main_job --peers-python ~/peers/bin/python --seconds 30,60,120 --seeds 1

Each tool runs once for the longest time on the same training rows; what it would have handed over at the
shorter times is read from its record. Wall time counts from the start of the process, imports included. Ours
is the whole command with Prefect, MLflow, cross-validation, final model and report: a trial counts at a
time only if everything that follows the last trial would have fitted in as well; the peers are not charged
for a final model. The configurations are then scored in one way: fitted on all training rows and measured on
test rows that no tool has seen, and cross-validated with folds that none has used.

The peers' environment needs ``flaml[automl]`` and ``optuna-integration``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _report as records
from benchmarks._main_job_score import Choice, cross_validated, held_out, rounds_of
from benchmarks._main_job_tables import TABLES, MainTable

__all__ = ["main", "report"]

ROOT = Path(__file__).resolve().parent.parent
OURS = "hpo"
PEERS = {"flaml": "flaml", "optuna-tuner": "optuna-integration"}
KEY = ("table", "seconds", "seed", "tool")
COLUMNS = (*KEY, "metric", "held_out", "cv", "found_at", "start", "tail", "load", "rounds", "params",
           "peer_versions", *records.STAMP_COLUMNS)  # fmt: skip
SCORES = {"held_out": "held out", "cv": "cross-validated"}
FOLDS = 5
# Nobody's start is to be spent on compiling, ours or theirs.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
_VERSIONS = "import importlib.metadata as m; print('; '.join(f'{p} {m.version(p)}' for p in %r))"


class Job:
    """One table with one seed: the files that the tools read, and how their choices are scored."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        from flows.objectives import make_objective
        from flows.objectives._base import load_setting

        self.table: MainTable = TABLES[name]
        self.seed, self.folder = seed, folder
        folder.mkdir(parents=True)
        self.csv = folder / "table.csv"
        self.table.make().to_csv(self.csv, index=False)
        options: dict[str, Any] = {
            "data": str(self.csv),
            "target": "target",
            "task": self.table.task,
            "seed": seed,
        }
        self.objective = make_objective("lgbm", **options, metric=self.table.metric, folds=FOLDS)
        self.setting = load_setting(self.objective.table)
        self._hand_to_peers()
        self._scores: dict[str, tuple[float, float]] = {}

    def _hand_to_peers(self) -> None:
        """The training rows of our own split: the peers see neither more nor less."""
        problem, rows = self.setting.problem, self.setting.split.train
        frame = problem.frame.iloc[rows].assign(target=problem.labels_of(rows))
        frame.to_csv(self.folder / "train.csv", index=False)
        question = {"task": self.table.task, "metric": self.table.metric, "folds": FOLDS,
                    "categories": problem.categories}  # fmt: skip
        (self.folder / "question.json").write_text(json.dumps(question))

    def score(self, choice: Choice) -> tuple[float, float, int]:
        """Held-out and cross-validated score of a choice, and its rounds."""
        rounds = choice.rounds or rounds_of(self.setting, choice, FOLDS)
        choice = Choice(choice.at, choice.params, rounds)
        key = json.dumps([dict(choice.params), rounds], sort_keys=True)
        if key not in self._scores:
            self._scores[key] = held_out(self.setting, choice), cross_validated(self.setting, choice)
        return *self._scores[key], rounds


def _environment(home: Path) -> dict[str, str]:
    """Databases that exist already, as a user's do: making them takes seconds, once in a lifetime."""
    return {
        **_ENVIRONMENT,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "PREFECT_HOME": str(home / "prefect"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=dict(environment), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[:4]} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _hpo(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())", *arguments]


def warm_up(home: Path) -> None:
    """Make MLflow's and Prefect's databases with a study of one trial."""
    command = _hpo("tune", "lgbm", "--data", "sklearn:wine", "--target", "target", "--trials", "1")
    _run(command, _environment(home), home)


def run_ours(job: Job, seconds: float, home: Path) -> tuple[list[Choice], dict[str, float]]:
    """Every improvement of one whole command; a choice's time has what follows the last trial added."""
    from flows._workspace import read_study

    began = time.time()
    command = _hpo(
        "tune", "lgbm", "--data", str(job.csv), "--target", "target", "--task", job.table.task,
        "--metric", job.table.metric, "--folds", str(FOLDS), "--option", f"seed={job.seed}",
        "--seed", str(job.seed), "--timeout", str(seconds), "--workers", "2",
        "--name", "main-job", "--experiment", job.folder.name, "--json",
    )  # fmt: skip
    _run(command, _environment(home), job.folder)
    ended = time.time()
    study = read_study(job.folder / ".hpo" / "studies" / "main-job")
    complete = sorted((t for t in study.trials if t.values), key=lambda t: t.finished_at)
    ran = [t for t in study.trials if t.finished_at]
    tail = ended - max(t.finished_at for t in ran)
    sign, best, found = job.setting.metric.sign, float("inf"), []
    for trial in complete:
        value = sign * trial.values[job.table.metric]
        if value < best:
            best = value
            reports = study.history.reports.last(trial.number)
            found.append(Choice(trial.finished_at + tail, trial.params, round(reports["rounds"])))
    start = min(t.finished_at for t in ran) - began
    return found, {"began": began, "start": start, "tail": tail}


def run_peer(job: Job, tool: str, seconds: float, python: str) -> tuple[list[Choice], dict[str, float]]:
    """Every improvement of a peer's search."""
    from flows.objectives._base import useful_threads

    began = time.time()
    # On a small table a second thread slows LightGBM down; the peers get the number that ours would take.
    threads = useful_threads(os.cpu_count() or 1, job.setting.problem.matrix.size)
    script = ROOT / "benchmarks" / "peers" / "_lightgbm_search.py"
    arguments = [tool, str(job.folder), str(seconds), str(job.seed), str(threads)]
    output = _run([python, "-W", "ignore", str(script), *arguments], _ENVIRONMENT, job.folder)
    found = [Choice(**c) for c in json.loads(output.strip().splitlines()[-1])]
    start = (found[0].at - began) if found else float("nan")
    return found, {"began": began, "start": start, "tail": 0.0}


def _rows(
    job: Job, name: str, tool: str, horizons: Sequence[float], options: argparse.Namespace, home: Path
) -> Iterator[dict[str, Any]]:
    load = os.getloadavg()[0]
    if tool == OURS:
        found, facts = run_ours(job, max(horizons), home)
    else:
        found, facts = run_peer(job, tool, max(horizons), options.peers_python)
    load = max(load, os.getloadavg()[0])
    for horizon in horizons:
        known = [c for c in found if c.at <= facts["began"] + horizon]
        row: dict[str, Any] = dict(
            zip(KEY, (name, f"{horizon:g}", job.seed, tool), strict=True), metric=job.table.metric
        )
        row |= {"start": f"{facts['start']:.1f}", "tail": f"{facts['tail']:.1f}", "load": f"{load:.1f}"}
        if known:
            out, cv, rounds = job.score(known[-1])
            row |= {"held_out": f"{out:.6g}", "cv": f"{cv:.6g}", "rounds": rounds,
                    "found_at": f"{known[-1].at - facts['began']:.1f}",
                    "params": json.dumps(dict(known[-1].params))}  # fmt: skip
        yield row


def _ahead(metric: str, ours: float | None, theirs: float | None) -> float:
    """1 where our score is better, 0 where worse, half for a tie; who has none in time loses."""
    if ours is None or theirs is None:
        return 0.5 if ours == theirs else float(theirs is None)
    gain = (ours - theirs) * (1.0 if metric == "auc" else -1.0)
    return 0.5 if gain == 0 else float(gain > 0)


def report(rows: Sequence[Mapping[str, str]]) -> str:
    """Scores per table and time, means over seeds, and on how many tables we are ahead, seed by seed too."""
    parts: list[str] = []
    for seconds in sorted({r["seconds"] for r in rows}, key=float):
        here = [r for r in rows if r["seconds"] == seconds]
        tools = [t for t in (OURS, *PEERS) if any(r["tool"] == t for r in here)]
        lines = []
        for name, own in _by_table(here):
            cells = [" / ".join(_text(_mean(own, tool, score)) for score in SCORES) for tool in tools]
            lines.append([name, own[0]["metric"], *cells])
        parts += [f"### {seconds} s", records.markdown(["table", "metric", *tools], lines)]
        seeds = sorted({r["seed"] for r in here}, key=int)
        for peer in tools if OURS in tools else ():
            if peer == OURS:
                continue
            parts.append(_count(here, peer))
            if len(seeds) > 1:
                each = [f"seed {s}: {_count([r for r in here if r['seed'] == s], peer)}" for s in seeds]
                parts.append("\n".join(f"- {line}" for line in each))
    return "\n\n".join(parts)


def _by_table(rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, list[Mapping[str, str]]]]:
    for name in TABLES:
        own = [r for r in rows if r["table"] == name]
        if own:
            yield name, own


def _count(rows: Sequence[Mapping[str, str]], peer: str) -> str:
    """On how many of the tables that both have been measured on we are ahead of the peer."""
    both = [own for _, own in _by_table(rows) if {OURS, peer} <= {r["tool"] for r in own}]
    wins = {
        score: sum(_ahead(o[0]["metric"], _mean(o, OURS, score), _mean(o, peer, score)) for o in both)
        for score in SCORES
    }
    each = " and ".join(f"{wins[s]:g} {words}" for s, words in SCORES.items())
    return f"ahead of {peer}, of {len(both)} tables, on {each}"


def _mean(rows: Sequence[Mapping[str, str]], tool: str, score: str) -> float | None:
    """The mean over seeds; none where one of the runs had nothing in time."""
    scores = [r[score] for r in rows if r["tool"] == tool]
    return statistics.fmean(map(float, scores)) if scores and all(scores) else None


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def plot(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Per table, the gain in both scores over each peer, in per cent of the peer's."""
    last = max((r["seconds"] for r in rows), key=float)
    tables = list(_by_table([r for r in rows if r["seconds"] == last]))
    figure, axes = records.new_figure(2)
    for axis, (score, words) in zip(axes, SCORES.items(), strict=True):
        for i, peer in enumerate(PEERS):
            gains = [_gain(own, peer, score) for _, own in tables]
            axis.bar([x + 0.4 * i for x in range(len(tables))], gains, width=0.4, label=f"over {peer}")
        places = [x + 0.2 for x in range(len(tables))]
        axis.set_xticks(places, [name for name, _ in tables], rotation=40, ha="right", fontsize=8)
        axis.axhline(0, color="0.3", linewidth=0.8)
        axis.set_title(f"{words}, {last} s", fontsize=10)
        axis.set_ylabel("better by, % of the peer's score")
        axis.legend(fontsize=8)
    records.save_figure(figure, path, rows[-1])


def _gain(rows: Sequence[Mapping[str, str]], peer: str, score: str) -> float:
    ours, theirs = _mean(rows, OURS, score), _mean(rows, peer, score)
    if ours is None or theirs is None:
        return 100.0 * (theirs is None) - 100.0 * (ours is None)  # who has none in time loses
    if not theirs:
        return 0.0
    return 100 * (ours - theirs) / abs(theirs) * (1.0 if rows[0]["metric"] == "auc" else -1.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.main_job", description=__doc__)
    add = parser.add_argument
    add("--tables", default=",".join(TABLES), help=f"of {', '.join(TABLES)}")
    add("--tools", default=",".join((OURS, *PEERS)), help=f"of {OURS}, {', '.join(PEERS)}")
    add("--seconds", default="30,60,120", help="wall times; each tool runs once, for the longest")
    add("--seeds", type=int, default=1)
    add("--first-seed", type=int, default=0)
    add("--peers-python", default=sys.executable, help="interpreter that has the peers")
    add("--out", type=Path, default=records.RESULTS / "main-job.csv")
    add("--report", action="store_true", help="measure nothing, report what the file holds")
    return parser


def _measure(options: argparse.Namespace) -> None:
    horizons = sorted(float(s) for s in options.seconds.split(","))
    marks = records.stamp(("lightgbm", "mlflow", "prefect", "scikit-learn"))
    peers = [PEERS[t] for t in options.tools.split(",") if t in PEERS]
    wanted = [options.peers_python, "-c", _VERSIONS % [*peers, "optuna", "lightgbm"]]
    marks["peer_versions"] = _run(wanted, os.environ, ROOT).strip() if peers else ""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if OURS in options.tools.split(","):
            warm_up(home)
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for name in options.tables.split(","):
                job = Job(name, seed, home / f"{name}-{seed}")
                for tool in options.tools.split(","):
                    for row in _rows(job, name, tool, horizons, options, home):
                        records.append_row(
                            options.out, COLUMNS, {**dict.fromkeys(COLUMNS, ""), **row, **marks}
                        )
                        print(" ".join(f"{k}={row.get(k, '')}" for k in COLUMNS[:11]), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep the rows, print the report."""
    options = _parser().parse_args(arguments)
    if not options.report:
        _measure(options)
        records.compact(
            options.out, KEY, lambda r: (r["table"], float(r["seconds"]), int(r["seed"]), r["tool"])
        )
    rows = records.read_rows(options.out, KEY)
    text = report(rows)
    print(text)
    options.out.with_suffix(".md").write_text(f"# The main job\n\n{text}\n", encoding="utf-8")
    plot(rows, options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
