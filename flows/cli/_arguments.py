"""The arguments and options of the commands, each with what its help says of it."""

from __future__ import annotations

from typing import Annotated

import typer

# What several commands take.
Study = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Offline = Annotated[bool, typer.Option("--offline", help="Run without MLflow; deliver later")]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow tracking server or database")]

# What `hpo tune` takes, in the order of its help.
Objective = Annotated[
    str,
    typer.Argument(
        help="lgbm, sklearn, torch, PATH.py:function, package.module:function or a project: FOLDER#ENTRY"
    ),
]
Data = Annotated[str | None, typer.Option(help="CSV or Parquet file, or sklearn:NAME")]
Target = Annotated[str | None, typer.Option(help="Column to predict")]
Metric = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", help="Metric to tune, such as auc; of a function or project rmse=min, may be repeated"
    ),
]
Task = Annotated[str | None, typer.Option(help="binary, multiclass or regression")]
Space = Annotated[str | None, typer.Option(help="YAML or JSON file that narrows or replaces the space")]
Strategy = Annotated[str, typer.Option(help="Such as auto, tpe, gp, asha, gp+asha, bohb")]
Trials = Annotated[
    int | None,
    typer.Option(help="The study's total, not this command's; default 100, with another limit none"),
]
Timeout = Annotated[float | None, typer.Option(help="Seconds for the study")]
Workers = Annotated[int | None, typer.Option(help="Trials at once; default one per core")]
Runner = Annotated[str, typer.Option(help="local, dask or gpu")]
Name = Annotated[str | None, typer.Option(help="Name of the study; the same name resumes it")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it")]
Register = Annotated[str | None, typer.Option(help="Registered model for the champion")]
Estimator = Annotated[str | None, typer.Option(help="sklearn: import path of the estimator")]
Folds = Annotated[int | None, typer.Option(help="Cross-validation folds")]
Split = Annotated[str | None, typer.Option(help="stratified, plain, grouped or time")]
Group = Annotated[str | None, typer.Option(help="Column whose rows stay together")]
TimeColumn = Annotated[str | None, typer.Option(help="Column that orders the rows in time")]
Option = Annotated[list[str] | None, typer.Option(help="KEY=VALUE, further options of the objective")]
MaxSteps = Annotated[int | None, typer.Option(help="Step at which a trial is complete")]
Rule = Annotated[
    str | None, typer.Option(help="Which result of a trial counts: last, best or average-K; default last")
]
OnDuplicate = Annotated[
    str | None,
    typer.Option(help="What was tried before: resample, reuse its result or repeat it; default resample"),
]
MaxAttempts = Annotated[
    int | None, typer.Option(help="How often a trial is begun whose workers vanish; default 5")
]
Granularity = Annotated[
    float, typer.Option(help="Seconds of tiny trials that share one task run of Prefect; 0: each its own")
]
Repeats = Annotated[
    int | None, typer.Option(help="Runs of each configuration, with other seeds; their mean counts")
]
Constraint = Annotated[
    list[str] | None,
    typer.Option("--constraint", help="Bound on a metric such as 'latency_ms <= 10'; may be repeated"),
]
TrialTimeout = Annotated[float | None, typer.Option(help="Seconds per trial, then it is killed")]
TrialMemory = Annotated[float | None, typer.Option(help="MiB per trial, then it is killed")]
CheckpointQuota = Annotated[
    float | None, typer.Option(help="MiB for all checkpoints; the least promising ones go first")
]
UploadCheckpoints = Annotated[
    str, typer.Option(help="To MLflow: none, best, or kept: all that another machine needs to go on")
]
MaxTotalSteps = Annotated[int | None, typer.Option(help="Steps of all trials together, then the study ends")]
MaxCost = Annotated[float | None, typer.Option(help="Seconds of all trials together, then the study ends")]
MaxFailures = Annotated[int | None, typer.Option(help="Failed trials after which the study stops")]
StopWhen = Annotated[
    str | None,
    typer.Option(help="End when further trials are expected to gain less: noise, or a number"),
]
Isolation = Annotated[str, typer.Option(help="process or thread")]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic", help="Take results in the order of the trials: the same study every time"
    ),
]
EnvManager = Annotated[
    str | None, typer.Option(help="Of a project: local, virtualenv, uv or conda; default local")
]
GpusPerTrial = Annotated[float | None, typer.Option(help="GPUs per trial, whole or a fraction")]
Dask = Annotated[str | None, typer.Option(help="Address of a Dask scheduler, tcp://host:8786")]
Experiment = Annotated[str | None, typer.Option(help="MLflow experiment; default the study's name")]
# Of a study that is there.
ShownIn = Annotated[
    str | None, typer.Option("--experiment", help="MLflow experiment to show it in from now on")
]
WarmStart = Annotated[
    list[str] | None,
    typer.Option(
        help="Results to begin with: study:NAME, mlflow:EXPERIMENT, csv:FILE or optuna:STORAGE#STUDY, "
        "with ?OURS=THEIRS where names differ; may be repeated"
    ),
]
Enqueue = Annotated[
    list[str] | None,
    typer.Option(help="Configuration to try first, as JSON: '{\"lr\": 0.1}'; may be repeated"),
]
EditSpace = Annotated[bool, typer.Option("--edit-space", help="Go on with an edited space")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run; create nothing")]
