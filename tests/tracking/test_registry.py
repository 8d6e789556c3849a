"""From a model in memory to an alias that serves, through a gate, and back."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import mlflow
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hpo_core import InputError
from tracking import (
    Candidate,
    Gate,
    LoggedModel,
    NotComparable,
    TrackingError,
    find_model,
    is_registered,
    load_own_model,
    log_model,
    promote,
    roll_back,
    version_note,
)
from tracking._connection import Connection, connect
from tracking._models import using_server

X = np.random.default_rng(0).random((40, 3))
Y = (X[:, 0] > 0.5).astype(int)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


@pytest.fixture
def connection(sqlite_uri: str, experiment: str) -> Connection:
    """An experiment of its own."""
    return connect(sqlite_uri, experiment)


@pytest.fixture
def run(connection: Connection) -> str:
    """A run that is over: logging a model must not open it again."""
    made = connection.client.create_run(connection.experiment_id)
    connection.client.set_terminated(made.info.run_id, "FINISHED")
    return str(made.info.run_id)


def predictions(connection: Connection, model: LoggedModel, data: Any = X) -> Any:
    """What the model in MLflow says."""
    assert connection.client.get_logged_model(model.model_id).experiment_id == connection.experiment_id
    with using_server(connection):
        return np.asarray(mlflow.pyfunc.load_model(model.uri).predict(data))


@pytest.mark.parametrize(
    ("make", "serialization"),
    [
        (lambda: LogisticRegression(), "skops"),
        (lambda: RandomForestClassifier(3), "skops"),
        (lambda: make_pipeline(FunctionTransformer(lambda x: x * 2), LogisticRegression()), "cloudpickle"),
    ],
)
def test_scikit_learn_models_are_logged_in_the_safest_form(
    connection: Connection, run: str, make: Any, serialization: str
) -> None:
    """MLflow's own default refuses a random forest."""
    model = make().fit(X, Y)
    before = mlflow.get_tracking_uri()
    logged = log_model(run, model, connection=connection, name="model", tags={"hpo.study_id": "s"})
    assert (logged.flavor, logged.serialization) == ("sklearn", serialization)
    np.testing.assert_array_equal(predictions(connection, logged), model.predict(X))
    done = connection.client.get_run(run)
    assert done.info.status == "FINISHED"
    assert [m.model_id for m in done.outputs.model_outputs] == [logged.model_id]
    tags = connection.client.get_logged_model(logged.model_id).tags
    assert (tags["hpo.serialization"], tags["hpo.study_id"]) == (serialization, "s")
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None


def test_the_newest_whole_model_of_a_run_is_found_beside_any_number_of_others(
    connection: Connection, run: str
) -> None:
    """MLflow answers in pages of a hundred; what a killed process had begun to log cannot be loaded."""
    whole = [
        log_model(run, LogisticRegression(C=c).fit(X, Y), connection=connection, tags={"hpo.final": "true"})
        for c in (1.0, 2.0)
    ]
    other = log_model(run, LogisticRegression().fit(X, Y), connection=connection)
    assert find_model(connection, run) == other
    assert find_model(connection, "another") is None
    for _ in range(101):
        connection.client.create_logged_model(
            connection.experiment_id, name="model", source_run_id=run, tags={"hpo.final": "true"}
        )
    assert find_model(connection, run, {"hpo.final": "true"}) == whole[1]


def test_lightgbm_models(connection: Connection, run: str) -> None:
    """As text, by either of its interfaces."""
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(X, Y)
    logged = log_model(run, model.booster_, connection=connection)
    assert logged.flavor == "lightgbm"
    np.testing.assert_allclose(predictions(connection, logged), model.booster_.predict(X))


def test_torch_models_are_exported_where_there_is_an_example(connection: Connection, run: str) -> None:
    """A pickle otherwise, and it says so."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 1).eval()
    data = X.astype(np.float32)
    logged = log_model(run, model, connection=connection)
    assert (logged.flavor, logged.serialization) == ("pytorch", "pickle")
    with torch.no_grad():
        expected = model(torch.from_numpy(data)).numpy()
    np.testing.assert_allclose(predictions(connection, logged, data), expected, rtol=1e-5)


def test_a_store_that_takes_no_files_is_not_the_models_fault(connection: Connection, sqlite_uri: str) -> None:
    """Each way to write a model was tried, and the advice was another flavour."""
    connection.client.create_experiment("nowhere", artifact_location="file:///dev/null/artifacts")
    nowhere = connect(sqlite_uri, "nowhere")
    made = nowhere.client.create_run(nowhere.experiment_id).info.run_id
    with pytest.raises(TrackingError, match=r"not take the files of the model .*where it keeps") as said:
        log_model(made, LogisticRegression().fit(X, Y), connection=nowhere)
    assert "flavor" not in str(said.value)


def test_a_store_with_errors_of_its_own_is_not_the_models_fault(
    connection: Connection, sqlite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials for a bucket, or the library for it, another flavour was asked for."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    connection.client.create_experiment("bucket", artifact_location="s3://nowhere/artifacts")
    bucket = connect(sqlite_uri, "bucket")
    made = bucket.client.create_run(bucket.experiment_id).info.run_id
    with pytest.raises(TrackingError, match=r"not take the files of the model \(.*boto3.*where it keeps"):
        log_model(made, LogisticRegression().fit(X, Y), connection=bucket)


def test_what_is_no_model_is_refused(connection: Connection, run: str) -> None:
    """Before MLflow has made anything."""
    with pytest.raises(InputError, match="pass flavor="):
        log_model(run, object(), connection=connection)
    with pytest.raises(InputError, match="flavor must be one of"):
        log_model(run, object(), connection=connection, flavor="nonsense")
    assert connection.client.search_logged_models([connection.experiment_id]) == []


# -- promotion ---------------------------------------------------------------------------------

GATE = Gate(metric="auc", margin=0.01)


@pytest.fixture
def name(experiment: str) -> str:
    """A registered model of its own."""
    return f"model {experiment}"


class Models:
    """Logs one model again and again."""

    def __init__(self, connection: Connection, run: str) -> None:
        self._connection, self._run = connection, run
        self._model = LogisticRegression().fit(X, Y)

    def candidate(self, auc: float, data: str = "d1") -> Candidate:
        """A newly logged model with this score."""
        model = log_model(self._run, self._model, connection=self._connection)
        lineage = {"hpo.study": "toy", "hpo.trial": "17"}
        return Candidate(model=model, scores={"auc": auc}, data_digest=data, lineage=lineage)


@pytest.fixture
def models(connection: Connection, run: str) -> Iterator[Models]:
    """Candidates for promotion."""
    return Models(connection, run)  # type: ignore[return-value]


def test_the_champion_is_replaced_only_by_a_better_one(
    connection: Connection, models: Models, name: str
) -> None:
    """By more than the margin; the version says why, and where it comes from."""
    champion = promote(connection, models.candidate(0.8), name=name, gate=GATE)
    assert (champion.promoted, champion.champion) == (True, "1")
    same = promote(connection, models.candidate(0.805), name=name, gate=GATE)
    assert (same.promoted, same.champion, same.version) == (False, "1", "2")
    assert "not more than 0.01 better: auc 0.805 against 0.8 of version 1" in same.reason
    better = promote(connection, models.candidate(0.9), name=name, gate=GATE)
    assert (better.promoted, better.champion) == (True, "3")
    version = connection.client.get_model_version_by_alias(name, "champion")
    expected = {"hpo.study": "toy", "hpo.trial": "17", "hpo.score.auc": "0.9", "hpo.replaces": "1"}
    assert expected.items() <= version.tags.items()
    assert connection.client.get_model_version_by_alias(name, "previous").version == 1
    assert str(better) == f"{name}@champion is version 3: better: auc 0.9 against 0.8 of version 1"
    even = promote(connection, models.candidate(0.9), name=name, gate=replace(GATE, margin=0.0))
    assert (even.promoted, even.champion) == (False, "3")
    assert even.reason == "not better: auc 0.9 against 0.9 of version 3"


def test_a_model_names_the_versions_that_are_made_of_it(
    connection: Connection, models: Models, name: str
) -> None:
    """By the tag that MLflow's own pages read."""
    candidate = models.candidate(0.8)
    for model in (name, f"{name} too"):
        promote(connection, candidate, name=model, gate=GATE)
    tags = connection.client.get_logged_model(candidate.model.model_id).tags
    expected = [{"name": model, "version": "1"} for model in (name, f"{name} too")]
    assert json.loads(tags["mlflow.modelVersions"]) == expected


def test_what_no_tag_can_hold_is_cut_or_left_out(connection: Connection, models: Models, name: str) -> None:
    """A part of the results on folds would be taken for all of them."""
    long = replace(
        models.candidate(0.8), lineage={"hpo.objective": "o" * 9000}, folds=dict.fromkeys(range(2000), 0.5)
    )
    assert promote(connection, long, name=name, gate=GATE).promoted
    tags = connection.client.get_model_version(name, "1").tags
    assert 7000 < len(tags["hpo.objective"]) <= 8000
    assert "hpo.folds" not in tags
    connection.client.set_model_version_tag(name, "1", "hpo.score.auc", "by hand: good")
    refused = promote(connection, models.candidate(0.9), name=name, gate=GATE)
    assert "version 1 has no auc on the same held-out data" in refused.reason


def test_a_description_fits_its_column() -> None:
    """PostgreSQL refuses one of more than 5,000 characters, and with it the version."""
    params = {f"{'long' * 20}-{number}": "value" * 20 for number in range(60)}
    told = version_note("mine", 7, {"auc": 0.5}, params, tested={"auc": 0.25})
    assert told.startswith("Trial 7 of study **mine**: `auc` = **0.5**.")
    assert "that no trial saw: `auc` = **0.25**." in told
    assert len(told) == 5000


def test_promoting_again_changes_nothing(connection: Connection, models: Models, name: str) -> None:
    """However often, and in either outcome."""
    first, second = models.candidate(0.8), models.candidate(0.7)
    for _ in range(2):
        assert promote(connection, first, name=name, gate=GATE).champion == "1"
        again = promote(connection, first, name=name, gate=GATE)
        assert (again.reason, again.promoted) == ("it already holds the alias", True)
        assert not promote(connection, second, name=name, gate=GATE).promoted
    assert len(connection.client.search_model_versions(f"name='{name}'")) == 2


def test_a_dry_run_makes_nothing(connection: Connection, models: Models, name: str) -> None:
    """It says what would happen."""
    result = promote(connection, models.candidate(0.8), name=name, gate=GATE, dry_run=True)
    assert (result.promoted, result.version, result.champion) == (True, None, None)
    assert result.reason.startswith("dry run: the first one")
    by_seeds = replace(models.candidate(0.8), folds=FOLDS, seeds=True)
    told = promote(connection, by_seeds, name=name, gate=replace(GATE, folds=True), dry_run=True)
    assert told.reason.endswith("over 5 seeds")
    assert connection.client.search_registered_models(f"name='{name}'") == []
    promote(connection, models.candidate(0.8), name=name, gate=GATE)
    refused = promote(connection, models.candidate(0.7), name=name, gate=GATE, dry_run=True)
    assert (refused.promoted, refused.version, refused.champion) == (False, None, "1")


def test_scores_on_other_data_are_not_compared(connection: Connection, models: Models, name: str) -> None:
    """The champion is evaluated on the candidate's data, or keeps its alias."""
    promote(connection, models.candidate(0.99, "old data"), name=name, gate=GATE)
    other = models.candidate(0.9, "new data")
    refused = promote(connection, other, name=name, gate=GATE)
    assert (refused.promoted, refused.champion) == (False, "1")
    assert "same held-out data" in refused.reason
    asked: list[str] = []

    def score(uri: str) -> dict[str, float]:
        asked.append(uri)
        load_own_model(connection, uri).predict(X)
        return {"auc": 0.85}

    passed = promote(connection, other, name=name, gate=GATE, score=score)
    assert (passed.promoted, passed.champion) == (True, "2")
    assert asked == [f"models:/{name}/1"]


@pytest.mark.parametrize("folds", [False, True])
def test_scores_on_data_without_a_digest_are_not_compared(
    connection: Connection, models: Models, name: str, folds: bool
) -> None:
    """Nobody has said what they were measured on, so two of them need not be on the same rows."""
    gate = replace(GATE, folds=folds)
    on = {1: 0.5, 2: 0.6, 3: 0.55} if folds else {}
    promote(connection, replace(models.candidate(0.8, ""), folds=on), name=name, gate=gate)
    higher = {fold: value + 0.1 for fold, value in on.items()}
    refused = promote(connection, replace(models.candidate(0.9, ""), folds=higher), name=name, gate=gate)
    assert (refused.promoted, refused.champion) == (False, "1")
    assert f"on the same {'folds' if folds else 'held-out data'} to compare with" in refused.reason


def test_models_of_others_are_not_loaded(connection: Connection, models: Models, run: str, name: str) -> None:
    """Loading a model runs its code."""
    stranger = models.candidate(0.5).model
    connection.client.create_registered_model(name)
    with using_server(connection):
        connection.client.create_model_version(name, stranger.uri, run)
    connection.client.set_registered_model_alias(name, "champion", "1")
    for uri in (f"models:/{name}@champion", f"models:/{name}/1", stranger.uri):
        with pytest.raises(InputError, match="not logged by a study"):
            load_own_model(connection, uri)
    with pytest.raises(InputError, match="expected a URI such as"):
        load_own_model(connection, f"runs:/{run}/model")
    result = promote(connection, models.candidate(0.9), name=name, gate=GATE, score=lambda uri: {"auc": 0.1})
    assert not result.promoted
    assert "made by hand" in result.reason


def test_rolling_back_goes_back_step_by_step(connection: Connection, models: Models, name: str) -> None:
    """And says when there is nothing left to go back to."""
    for auc in (0.7, 0.8, 0.9):
        promote(connection, models.candidate(auc), name=name, gate=GATE)
    assert roll_back(connection, name=name).champion == "2"
    assert connection.client.get_model_version_by_alias(name, "previous").version == 1
    assert roll_back(connection, name=name).champion == "1"
    with pytest.raises(InputError, match="no earlier version"):
        roll_back(connection, name=name)
    again = promote(connection, models.candidate(0.75), name=name, gate=GATE)
    assert (again.champion, again.promoted) == ("4", True)


def test_an_alias_that_nothing_holds_is_not_said_to_lack_an_earlier_version(
    connection: Connection, models: Models, name: str
) -> None:
    """Of a model that was never registered it was said that its alias should be set by hand."""
    with pytest.raises(InputError, match=f"no version of a model '{name}' has the alias champion"):
        roll_back(connection, name=name)
    promote(connection, models.candidate(0.7), name=name, gate=GATE)
    with pytest.raises(InputError, match="has the alias staging; there is nothing to roll back"):
        roll_back(connection, name=name, alias="staging")


def test_going_back_ends_where_a_version_held_the_alias_twice(
    connection: Connection, models: Models, name: str
) -> None:
    """Put back by another gate, the older version and the newer one gave the alias to each other for ever."""
    client = connection.client
    first, second, third = (models.candidate(auc) for auc in (0.6, 0.7, 0.8))
    for candidate in (first, second, third, replace(second, data_digest="d2")):
        known = replace(candidate, scores={"auc": 0.9}) if candidate.data_digest == "d2" else candidate
        promote(connection, known, name=name, gate=GATE, score=lambda uri: {"auc": 0.1})
    held = [str(client.get_model_version_by_alias(name, "champion").version)]
    before = [str(client.get_model_version_by_alias(name, "previous").version)]
    for _ in range(3):
        held.append(str(roll_back(connection, name=name).champion))
        aliases = client.get_registered_model(name).aliases
        before.append(str(aliases.get("previous", "")))
    assert held == ["2", "3", "2", "1"]
    assert before == ["3", "2", "1", ""]
    with pytest.raises(InputError, match="no earlier version"):
        roll_back(connection, name=name)


def test_each_alias_goes_back_to_its_own_earlier_version(
    connection: Connection, models: Models, name: str
) -> None:
    """A version that was the champion and is put on trial elsewhere forgot whom it had replaced."""
    first, second = models.candidate(0.7), models.candidate(0.8)
    for candidate in (first, second):
        promote(connection, candidate, name=name, gate=GATE)
    promote(connection, replace(models.candidate(0.6), data_digest="d2"), name=name, gate=GATE, alias="trial")
    promote(connection, replace(second, data_digest="d2"), name=name, gate=GATE, alias="trial")
    aliases = connection.client.get_registered_model(name).aliases
    held = {"champion": "2", "previous": "1", "trial": "2", "previous-trial": "3"}
    assert {alias: str(version) for alias, version in aliases.items()} == held
    assert roll_back(connection, name=name).champion == "1"
    assert roll_back(connection, name=name, alias="trial").champion == "3"
    aliases = connection.client.get_registered_model(name).aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "1", "trial": "3"}


def test_a_copy_does_not_go_back_where_its_original_would(
    connection: Connection, models: Models, name: str
) -> None:
    """MLflow's own promotion copies tags, too: the alias was given to a version that had never held it."""
    client, live = connection.client, f"{name}-live"
    first, second, third = (models.candidate(auc) for auc in (0.6, 0.7, 0.8))
    for candidate in (first, second):
        promote(connection, candidate, name=name, gate=GATE)
    with using_server(connection):
        for version in ("1", "2"):
            client.copy_model_version(f"models:/{name}/{version}", live)
    client.set_registered_model_alias(live, "champion", "2")
    with pytest.raises(InputError, match=f"{live}@champion has no earlier version to go back to"):
        roll_back(connection, name=live)
    # What happens to the copies themselves is known.
    client.set_registered_model_alias(live, "champion", "1")
    assert promote(connection, second, name=live, gate=GATE).champion == "2"
    assert promote(connection, third, name=live, gate=GATE).champion == "3"
    assert [roll_back(connection, name=live).champion for _ in range(2)] == ["2", "1"]
    assert roll_back(connection, name=name).champion == "1"


def test_what_was_deleted_is_not_gone_back_to(connection: Connection, models: Models, name: str) -> None:
    """It was a traceback of MLflow's, half way through."""
    for auc in (0.6, 0.7, 0.8):
        promote(connection, models.candidate(auc), name=name, gate=GATE)
    connection.client.delete_model_version(name, "1")
    assert roll_back(connection, name=name).champion == "2"
    assert "previous" not in connection.client.get_registered_model(name).aliases
    with pytest.raises(InputError, match=r"version 1 of .* held champion before version 2, was deleted; set"):
        roll_back(connection, name=name)
    assert connection.client.get_model_version_by_alias(name, "champion").version == 2


def test_a_past_that_somebody_has_edited_is_named(connection: Connection, models: Models, name: str) -> None:
    """It was a traceback of MLflow's, which takes versions for numbers."""
    for auc in (0.6, 0.7):
        promote(connection, models.candidate(auc), name=name, gate=GATE)
    connection.client.set_model_version_tag(name, "2", "hpo.replaces", "the first")
    with pytest.raises(InputError, match=r"tag hpo.replaces of version 2 of .* such as 2,5, got 'the first'"):
        roll_back(connection, name=name)
    assert connection.client.get_model_version_by_alias(name, "champion").version == 2


def test_a_version_that_was_deleted_or_has_lost_its_alias_is_not_registered(
    connection: Connection, models: Models, name: str
) -> None:
    def there(version: str) -> bool:
        return is_registered(connection, name=name, version=version)

    assert not there("1")
    for auc in (0.6, 0.7):
        promote(connection, models.candidate(auc), name=name, gate=GATE)
    assert there("1")
    connection.client.delete_model_version(name, "1")
    assert (there("1"), there("2")) == (False, True)
    connection.client.delete_registered_model_alias(name, "champion")
    assert not there("2")


class Mortal:
    """A client whose caller dies at its ``last`` writing call, before or after that takes effect."""

    def __init__(self, client: Any, last: int, *, after: bool) -> None:
        self._client, self._last, self._after = client, last, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(("create_", "set_", "delete_")):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self._last and not self._after:
                raise KeyboardInterrupt
            found = method(*args, **kwargs)
            if self.calls == self._last:
                raise KeyboardInterrupt
            return found

        return call


def held(connection: Connection, name: str) -> dict[str, int]:
    """Alias to version."""
    aliases = connection.client.get_registered_model(name).aliases
    return {alias: int(version) for alias, version in aliases.items()}


@pytest.mark.parametrize("after", [False, True])
def test_whoever_is_killed_while_promoting_can_do_it_again(
    connection: Connection, models: Models, name: str, after: bool
) -> None:
    """At any call; a version that was made by then was missing on the page of its model."""
    promote(connection, models.candidate(0.1), name=name, gate=GATE)
    expected = connection.client.get_model_version(name, "1").tags.keys() | {"hpo.replaces"}
    for last in itertools.count(1):
        mortal = Mortal(connection.client, last, after=after)
        candidate = models.candidate(0.1 + 0.05 * last)
        cut = replace(connection, client=mortal)
        with contextlib.suppress(KeyboardInterrupt):
            promote(cut, candidate, name=name, gate=GATE)
        promote(connection, candidate, name=name, gate=GATE)
        version = connection.client.get_model_version_by_alias(name, "champion")
        assert held(connection, name) == {"champion": last + 1, "previous": last}
        assert version.tags.keys() == expected
        assert version.tags["hpo.replaces"] == str(last)
        shown = connection.client.get_logged_model(candidate.model.model_id).tags["mlflow.modelVersions"]
        assert json.loads(shown) == [{"name": name, "version": str(last + 1)}]
        if mortal.calls < last:
            break
    assert last > 8


@pytest.mark.parametrize("after", [False, True])
def test_whoever_is_killed_while_going_back_can_do_it_again(
    connection: Connection, models: Models, name: str, after: bool
) -> None:
    """The alias had moved and `previous` had not, so to do it again went a step too far."""
    for auc in (0.5, 0.6, 0.7, 0.8, 0.9):
        promote(connection, models.candidate(auc), name=name, gate=GATE)
    for last, champion in ((1, 5), (2, 4)):
        mortal = Mortal(connection.client, last, after=after)
        cut = replace(connection, client=mortal)
        with contextlib.suppress(KeyboardInterrupt):
            roll_back(cut, name=name)
        if held(connection, name)["champion"] == champion:
            roll_back(connection, name=name)
        assert held(connection, name) == {"champion": champion - 1, "previous": champion - 2}


FOLDS = {1: 0.80, 2: 0.82, 3: 0.79, 4: 0.85, 5: 0.81}


def better(by: float, jitter: float = 0.0) -> dict[int, float]:
    """Results on the same folds, better by so much on average."""
    return {fold: value + by + (jitter if fold % 2 else -jitter) for fold, value in FOLDS.items()}


def test_a_gate_on_folds_asks_for_more_than_luck(connection: Connection, models: Models, name: str) -> None:
    """Paired: 0.01 on every fold passes, as much on average with a larger spread does not."""
    gate = Gate(metric="auc", folds=True)
    first = replace(models.candidate(0.9), folds=FOLDS, folds_digest="f1")
    with pytest.raises(InputError, match="at least two folds"):
        promote(connection, replace(first, folds={1: 0.8}), name=name, gate=gate)
    assert "over 5 folds" in promote(connection, first, name=name, gate=gate).reason
    lucky = replace(models.candidate(0.9), folds=better(0.01, 0.05), folds_digest="f1")
    refused = promote(connection, lucky, name=name, gate=gate)
    assert not refused.promoted
    assert refused.reason.startswith("not better beyond doubt (p <= 0.05): auc better by 0.02 on average")
    # Its score on held-out rows, which is the worse one, is not what this gate is about.
    steady = replace(models.candidate(0.1), folds=better(0.01, 0.001), folds_digest="f1")
    assert not promote(connection, steady, name=name, gate=replace(gate, margin=0.5)).promoted

    def unasked(what: Any) -> dict[Any, float]:
        raise AssertionError(f"it is known, and takes long: {what}")

    seeds = promote(connection, replace(steady, seeds=True), name=name, gate=gate, dry_run=True)
    assert "on average over 5 seeds" in seeds.reason
    passed = promote(connection, steady, name=name, gate=gate, on_folds=unasked)
    assert (passed.promoted, passed.champion) == (True, "3")
    by_score = promote(connection, models.candidate(0.05), name=name, gate=GATE, score=unasked)
    assert by_score.reason == "not more than 0.01 better: auc 0.05 against 0.1 of version 3"


def test_results_on_other_folds_are_not_compared(connection: Connection, models: Models, name: str) -> None:
    """The champion's configuration is evaluated on the candidate's folds, or keeps its alias."""
    gate = Gate(metric="auc", folds=True)
    promote(connection, replace(models.candidate(0.9), folds=FOLDS, folds_digest="f1"), name=name, gate=gate)
    other = replace(models.candidate(0.9), folds=better(0.01, 0.001), folds_digest="f2")
    refused = promote(connection, other, name=name, gate=gate)
    assert not refused.promoted
    assert refused.reason.startswith("version 1 has no results on the same folds to compare with; where the")
    asked: list[str] = []

    def on_folds(version: Any) -> dict[int, float]:
        asked.append(str(version.version))
        return FOLDS

    assert promote(connection, other, name=name, gate=gate, on_folds=on_folds).promoted
    assert asked == ["1"]


@pytest.mark.parametrize("folds", [False, True])
def test_why_a_champion_cannot_be_compared_is_said(
    connection: Connection, models: Models, name: str, folds: bool
) -> None:
    """And it keeps the alias; an error that is nobody's answer goes on."""
    gate = Gate(metric="auc", folds=folds)
    promote(connection, replace(models.candidate(0.9), folds=FOLDS, folds_digest="f1"), name=name, gate=gate)
    other = replace(models.candidate(0.99, "d2"), folds=better(0.01, 0.001), folds_digest="f2")

    def fails(version: Any) -> dict[Any, float]:
        raise NotComparable("it has other columns")

    def breaks(version: Any) -> dict[Any, float]:
        raise OSError("no disk")

    refused = promote(connection, other, name=name, gate=gate, score=fails, on_folds=fails)
    assert (refused.promoted, refused.champion) == (False, "1")
    assert refused.reason == "cannot be compared with version 1: it has other columns"
    with pytest.raises(OSError, match="no disk"):
        promote(connection, other, name=name, gate=gate, score=breaks, on_folds=breaks)


def test_gates_for_losses_and_bad_gates(connection: Connection, models: Models, name: str) -> None:
    """Smaller is better where it is said so; a missing score is one line."""
    assert Gate(metric="loss", direction="min").gain(0.2, 0.5) == pytest.approx(0.3)
    for wrong in ({"direction": "up"}, {"margin": -1.0}, {"margin": float("nan")}, {"level": 1.0}):
        with pytest.raises(InputError, match="a gate's"):
            Gate(metric="auc", **wrong)
    with pytest.raises(InputError, match="no finite score 'f1'"):
        promote(connection, models.candidate(0.5), name=name, gate=Gate(metric="f1"))
