"""Space files: narrowing, replacing, and one line for each mistake."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows._tune import _space_text, tune
from flows.objectives import read_space
from flows.objectives._data import load_table, pose
from flows.objectives._lgbm_params import (
    ALIASES,
    KNOWN,
    RESERVED,
    check_domain,
    default_space,
    first_configurations,
    resolve,
)
from flows.objectives._space_file import build_space
from hpo_core import Categorical, Constant, Float, InputError, Int, Parameter, SearchSpace
from tests.flows.conftest import Place
from tests.flows.small_tables import mixed, written

DEFAULT: dict[str, Parameter] = {
    "learning_rate": Float(0.005, 0.3, log=True, default=0.05),
    "num_leaves": Int(4, 256, log=True, default=31),
    "min_data_in_leaf": Int(1, 100, default=20),
    "extra_trees": Categorical([False, True], default=False),
    "boosting": Categorical(["gbdt", "dart"], default="gbdt"),
    "drop_rate": Float(0.05, 0.5, default=0.1).when("boosting", "dart"),
}


def built(text: str, folder: Path, name: str = "s.yaml") -> SearchSpace:
    path = folder / name
    path.write_text(text)
    return build_space(DEFAULT, str(path), resolve=resolve, check=check_domain)


def test_without_a_file_the_default_stands() -> None:
    space = build_space(DEFAULT, None, resolve=resolve)
    assert space.parameters == DEFAULT


def test_what_is_named_changes_and_the_rest_stays(tmp_path: Path) -> None:
    space = built(
        """
        learning_rate: {low: 0.1}
        max_leaves: {high: 16}
        min_child_samples: null
        max_bin: 255
        extra_trees: [true, false]
        drop_rate: {high: 0.2}
        feature_fraction: {low: 0.5, high: 1}
        """,
        tmp_path,
    )
    parameters = space.parameters
    # The narrowed range leaves the default 0.05 out, which is the library's and not the user's.
    assert parameters["learning_rate"] == Float(0.1, 0.3, log=True)
    # An alias, and a default that no longer fits.
    assert parameters["num_leaves"] == Int(4, 16, log=True)
    assert "min_data_in_leaf" not in parameters
    assert parameters["max_bin"] == Constant(255)
    assert parameters["extra_trees"] == Categorical([True, False])
    assert parameters["boosting"] == DEFAULT["boosting"]
    assert parameters["drop_rate"] == Float(0.05, 0.2, default=0.1).when("boosting", "dart")
    assert parameters["feature_fraction"] == Float(0.5, 1.0)


@pytest.mark.parametrize("bound", ["low: 31", "high: 31"])
def test_a_default_at_the_end_of_the_narrowed_range_stays(tmp_path: Path, bound: str) -> None:
    parameter = built(f"num_leaves: {{{bound}}}", tmp_path).parameters["num_leaves"]
    assert isinstance(parameter, Int)
    assert parameter.default == 31


def test_replace_conditions_constraints_and_numbers_that_yaml_takes_for_text(tmp_path: Path) -> None:
    space = built(
        """
        replace: true
        learning_rate: {low: 1e-3, high: 1e-1, log: true}
        boosting: [gbdt, dart]
        drop_rate: {type: float, low: 0.1, high: 0.5, when: {boosting: dart}}
        num_leaves: {low: 4, high: 64}
        lambda_l2: {type: lognormal, mu: 0, sigma: 2}
        bagging_fraction: {low: 0.5, high: 1.0, when: {num_leaves: {ge: 8}}}
        constraints: ["num_leaves * learning_rate <= 5"]
        """,
        tmp_path,
    )
    assert set(space.names) == {
        "learning_rate",
        "boosting",
        "drop_rate",
        "num_leaves",
        "lambda_l2",
        "bagging_fraction",
    }
    # A full description starts afresh; a range alone keeps the default where there is one.
    assert space.parameters["learning_rate"] == Float(1e-3, 1e-1, log=True, default=0.05)
    assert space.parameters["num_leaves"] == Int(4, 64, log=True, default=31)
    config = space.decode(
        space.encode({"learning_rate": 0.01, "boosting": "gbdt", "num_leaves": 4, "lambda_l2": 1.0})
    )
    assert set(config) == {"learning_rate", "boosting", "num_leaves", "lambda_l2"}
    assert len(space.constraints) == 1


def test_json_files_and_json_text(tmp_path: Path) -> None:
    content = {"num_leaves": {"low": 8}, "extra_trees": None}
    from_file = built(json.dumps(content), tmp_path, "s.json")
    from_text = build_space(DEFAULT, json.dumps(content), resolve=resolve)
    assert from_file.parameters == from_text.parameters
    assert "extra_trees" not in from_text.parameters
    typed = build_space(DEFAULT, "{num_leaves: {low: 8}, extra_trees: null}", resolve=resolve)
    assert typed.parameters == from_text.parameters


def test_a_space_that_stands_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("x: {low: 0.0, high: 1.0}\nn: {low: 1, high: 5}\nkind: [a, b]\n")
    assert read_space(str(path)).parameters == {
        "x": Float(0.0, 1.0),
        "n": Int(1, 5),
        "kind": Categorical(["a", "b"]),
    }


@pytest.mark.parametrize(
    "text, words",
    [
        ("learning_rat: {low: 0.1}", "did you mean 'learning_rate'"),
        ("n_estimators: 100", "set max_rounds"),
        ("random_state: 1", "the trial's own seed is used"),
        ("learning_rate: {low: 5, high: 1}", "low must not be above high"),
        ("learning_rate: {low: 0.0}", "log scale needs low > 0"),
        ("learning_rate: {low: 0.1, default: 0.01}", "default 0.01 is outside [0.1, 0.3]"),
        ("num_leaves: {low: 4.5}", "must be a whole number"),
        ("num_leaves: {type: float, low: 4, high: 8}", "give it type: int"),
        ("num_leaves: {lower: 4}", "unknown field 'lower'; did you mean"),
        ("num_leaves: {type: integer, low: 4, high: 8}", "type 'integer' is not one of"),
        ("num_leaves: {low: many}", "whole number"),
        ("feature_fraction: {low: 0.5, high: 1.5}", "must be above 0 and at most 1"),
        ("tweedie_variance_power: {low: 1.0, high: 2.0}", "refuses 2.0; it must be at least 1 and below 2"),
        ("learning_rate: {type: normal, mu: 0.1, sigma: 0.05}", "it must be above 0"),
        ("feature_fraction: {low: 0.5}", "needs low and high, choices, or a type"),
        ("boosting: [gbdt, dartt]", "must be one of gbdt, dart"),
        ("boosting: {choices: gbdt}", "choices must be a list"),
        ("extra_trees: {low: 0, high: 1}", "write [true, false]"),
        ("extra_trees: [0, 1]", "it must be true or false"),
        ("boosting: [gbdt, gbdt]", "appears twice"),
        ("boosting: null", "'drop_rate' depends on 'boosting'"),
        ("drop_rate: {when: {boosting: rf}}", "can never be"),
        ("drop_rate: {when: dart}", "when must look like"),
        ("drop_rate: {when: {num_leaves: {above: 3}}}", "takes ge and le"),
        ("max_bin: null", "is not in the default space"),
        ("num_leaves: {low: 8}\nmax_leaf: {low: 9}", "is the same as 'num_leaves'"),
        ("num_leaves: {low: 8}\nnum_leaves: {low: 9}", "line 2: 'num_leaves' is there twice"),
        ("replace: true", "the space is empty"),
        ("replace: true\nmax_bin: 255", "nothing to tune"),
        ("replace: 3\nmax_bin: 255", "replace must be true or false"),
        ("constraints: num_leaves < 3", "constraints must be a list"),
        ("constraints: ['num_leves < 3']", "did you mean 'num_leaves'"),
        ("- a\n- b", "must hold lines such as"),
        ("3: 4", "must be text, got 3"),
        ("a: [b", "line 1"),
        ("", "must hold lines such as"),
    ],
)
def test_mistakes_name_the_file_and_the_remedy(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        built(text, tmp_path)
    message = str(caught.value)
    assert words in message
    assert "s.yaml" in message
    assert "\n" not in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("a: 1")
    with pytest.raises(InputError, match=r"beside it there is 'space\.yaml'"):
        build_space(DEFAULT, str(tmp_path / "spaces.yaml"), resolve=resolve)
    (tmp_path / "bad.json").write_text('{"a": 1,\n"b"}')
    with pytest.raises(InputError, match="line 2"):
        build_space(DEFAULT, str(tmp_path / "bad.json"), resolve=resolve)
    with pytest.raises(InputError, match="space, line 1"):
        build_space(DEFAULT, "{max_bin: [1}", resolve=resolve)


def test_the_table_of_lightgbm_parameters_is_lightgbms() -> None:
    import ctypes

    import lightgbm

    size = ctypes.c_int64(0)
    buffer = ctypes.create_string_buffer(1 << 20)
    lightgbm.basic._LIB.LGBM_DumpParamAliases(ctypes.c_int64(1 << 20), ctypes.byref(size), buffer)
    theirs: dict[str, list[str]] = json.loads(buffer.value)
    for name, known in KNOWN.items():
        assert name in theirs, name
        assert set(known.aliases.split()) <= set(theirs[name]) - {name}, name
    everything = {*theirs, *(a for aliases in theirs.values() for a in aliases)}
    assert set(RESERVED) <= everything
    assert not set(ALIASES) & set(KNOWN)


# What LightGBM takes for something else below the range.
_MEANS_NOTHING = {"max_depth", "bagging_freq", "num_grad_quant_bins"}
_WHERE_IT_COUNTS = {
    "alpha": "huber",
    "fair_c": "fair",
    "poisson_max_delta_step": "poisson",
    "tweedie_variance_power": "tweedie",
}


def test_the_default_space_lies_within_the_ranges(tmp_path: Path) -> None:
    problem = pose(load_table(written(tmp_path, mixed(60)), "y"))
    rare = replace(problem, y=(np.arange(60) < 6).astype(float))
    for posed in (problem, rare):
        space = default_space(posed, 40, 1000)
        for name, parameter in space.items():
            check_domain(name, parameter)
        assert ("scale_pos_weight" in space) == (posed is rare)


@pytest.mark.parametrize(
    ("task", "n_train", "leaves", "large"),
    [
        ("regression", 40, 10, None),
        ("regression", 9_999, 256, None),
        ("regression", 10_000, 256, 63),
        ("binary", 24_000, 256, 150),
        ("binary", 400_000, 1000, 255),
        ("multiclass", 120_000, 300, 250),
        ("binary", 5_000_000, 2048, 255),
    ],
)
def test_large_trees_are_searched_and_tried_early_where_rows_are_many(
    tmp_path: Path, task: str, n_train: int, leaves: int, large: int | None
) -> None:
    """On half a million rows the search began with 31 leaves and ended at 256; 668 were better."""
    problem = pose(load_table(written(tmp_path, mixed(60, task=task)), "y"))
    space = SearchSpace(default_space(problem, n_train, 1000))
    first = first_configurations(space, problem, n_train)
    assert [c["num_leaves"] for c in first] == [
        min(31, leaves),
        6,
        *([large] if large else []),
        min(31, leaves),
        6,
    ]
    assert space.parameters["num_leaves"] == Int(4, leaves, log=True, default=min(31, leaves))
    if large:
        assert first[2] == {**first[0], "num_leaves": large, "learning_rate": 0.1}


def test_learning_rates_that_take_more_rounds_than_there_are_are_not_searched_on_many_rows(
    tmp_path: Path,
) -> None:
    """They cost the most of all, each trial a minute, and came out behind."""
    problem = pose(load_table(written(tmp_path, mixed(60)), "y"))
    for n_train, max_rounds, low in (
        (9_999, 1000, 0.005),
        (10_000, 1000, 0.02),
        (10_000, 2000, 0.01),
        (10_000, 9000, 0.005),
        (10_000, 60, 0.02),
    ):
        assert default_space(problem, n_train, max_rounds)["learning_rate"] == Float(
            low, 0.3, log=True, default=0.05
        )


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.kind in ("int", "float")])
def test_ranges_end_where_lightgbm_refuses(name: str) -> None:
    import lightgbm

    rng = np.random.default_rng(0)
    quiet = {"verbosity": -1}
    table = lightgbm.Dataset(rng.random((60, 2)), rng.random(60) + 0.1, params=quiet)

    def taken(value: float) -> bool:
        try:
            objective = _WHERE_IT_COUNTS.get(name, "regression")
            lightgbm.Booster({**quiet, "objective": objective, name: value}, table)
        except lightgbm.basic.LightGBMError:
            return False
        return True

    def ours(value: float) -> bool:
        try:
            check_domain(name, Constant(value))
        except InputError:
            return False
        return True

    known = KNOWN[name]
    step = 1 if known.kind == "int" else 1e-3
    for end in (known.low, known.high):
        for value in (end - step, end, end + step) if math.isfinite(end) else ():
            if name not in _MEANS_NOTHING or ours(value):
                assert taken(value) == ours(value), value


@pytest.mark.parametrize(
    "kind, path", [(p.name.partition("_")[0], p) for p in sorted(Path("examples/spaces").glob("*.yaml"))]
)
def test_the_examples_can_be_read(kind: str, path: Path) -> None:
    from flows.objectives import make_objective

    extra: dict[str, Any] = {"estimator": "linear"} if kind == "sklearn" else {}
    make_objective(kind, data="sklearn:breast_cancer", space=str(path), **extra).prepare()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "s.yaml",
            "x: {type: float, low: 0.1, high: 1, log: 'false'}",
            "log must be true or false, got 'false'",
        ),
        ("s.yaml", "x: {choices: [1, 2], ordered: 'no'}", "ordered must be true or false"),
        ("s.json", '{"x": {"low": 0, "high": 1}, "x": 5}', "'x' is there twice"),
        ("s.json", '{"x": {"type": "float", "low": 0, "low": 1, "high": 2}}', "'low' is there twice"),
        ("s.yaml", "x: {low: 0, high: 2, low: 1}", "line 1: 'low' is there twice"),
        ("s.yaml", "x: {choices: [{a: 1, a: 2}, 3]}", "line 1: 'a' is there twice"),
        ("s.yaml", "? [x, y]\n: {low: 0, high: 1}", "line 1: a name must be text, got a list"),
        ("s.yaml", "x: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    ],
)
def test_what_would_be_read_otherwise_than_it_was_meant_is_refused(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_space(str(tmp_path / name))


def test_a_folder_is_no_space_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_space(str(tmp_path))


def test_a_space_for_an_objective_by_name_keeps_its_conditions_and_constraints(place: Place) -> None:
    space = SearchSpace(
        {
            "num_leaves": Int(4, 64),
            "max_depth": Int(2, 6),
            "boosting": Categorical(["gbdt", "dart"]),
            "drop_rate": Float(0.1, 0.2).when("boosting", "dart"),
            "skip_drop": Float(0.1, 0.2).when("max_depth", ge=4),
        },
        constraints=["num_leaves <= 2 ** max_depth"],
    )
    text = _space_text(space)
    again = build_space(DEFAULT, text, resolve=resolve, check=check_domain)
    for name, parameter in space.parameters.items():
        assert again.parameters[name] == parameter
    assert [c.source for c in again.constraints] == ["num_leaves <= 2 ** max_depth"]
    function = SearchSpace(space.parameters, constraints=[lambda params: True])
    data = written(place.folder, mixed())
    with pytest.raises(InputError, match="takes constraints as expressions"):
        tune("lgbm", data=data, target="y", space=function, trials=1)
    assert not place.studies


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and code that may not be read were; this was a traceback."""
    path = tmp_path / "s.yaml"
    path.write_text("x: {low: 0.0, high: 1.0}")

    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)  # to root every file is open
    with pytest.raises(InputError, match=r"s\.yaml' cannot be read \(Permission denied\)"):
        read_space(str(path))
