"""Keys and values, held against MLflow's own validation."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from tracking._text import (
    MAX_PARAM,
    Names,
    config_json,
    config_sha256,
    param_text,
    preview,
    redacted,
    safe_key,
)

SECRETS = {
    "postgresql://me:hidden@db:5432/x": "postgresql://me:***@db:5432/x",
    "at 'http://me:hid@den@h/p' and s3://a:hidden@b": "at 'http://me:***@h/p' and s3://a:***@b",
    "http://me:hid/den@h:5000/p and 'http://me:hid/den@h' more@x": (
        "http://me:***@h:5000/p and 'http://me:***@h' more@x"
    ),
    "http://h/p?a=1&Token=hidden&b=2#c": "http://h/p?a=1&Token=***&b=2#c",
    "http://h:5000/a@b": "http://h:5000/a@b",
    "sqlite:////tmp/a:b@c.db": "sqlite:////tmp/a:b@c.db",
    "mail me@home: x, ratio 1:2": "mail me@home: x, ratio 1:2",
}


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_passwords_of_urls_are_redacted_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


NASTY = [
    "",
    ".",
    "..",
    "/",
    "a//b",
    "/a",
    "a/",
    "a/../b",
    "../x",
    "a[0]",
    "a=b",
    "%",
    "a:b",
    "x" * 300,
    " ",
    "é",
]


@given(st.text(max_size=300))
@example("a/./b")
@example("a..b")
def test_any_name_becomes_a_key_that_mlflow_takes(name: str) -> None:
    """As a parameter, a metric and a tag alike."""
    key = safe_key(name)
    for validate in (_validate_param_name, _validate_metric_name, _validate_tag_name):
        validate(key)


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names(name: str) -> None:
    """Those that MLflow is known to refuse."""
    _validate_param_name(safe_key(name))


@pytest.mark.parametrize("name", ["lr", "model/depth", "a.b", "learning rate", "größe", "p-1"])
def test_good_names_stay(name: str) -> None:
    """What MLflow takes is what it gets."""
    assert safe_key(name) == name


@given(st.lists(st.sampled_from([*NASTY, "a_0_", "a__b", "_", "x" * 299]), min_size=2, unique=True))
def test_two_names_never_share_a_key(names: list[str]) -> None:
    """And the same name keeps its key."""
    keys = Names()
    made = [keys.key(name) for name in names]
    assert len(set(made)) == len(names)
    assert [keys.key(name) for name in names] == made
    renamed = keys.renamed()
    assert all(renamed.get(key, key) == name for key, name in zip(made, names, strict=True))


@given(st.text(max_size=50), st.integers(30, 60))
def test_a_preview_fits(text: str, limit: int) -> None:
    """And is the text itself where that fits."""
    shown = preview(text * 3, limit)
    assert len(shown) <= limit
    assert (shown == text * 3) == (len(text * 3) <= limit)


def test_long_parameters_say_how_long_they_are() -> None:
    """MLflow would cut them silently."""
    assert param_text("v" * 10_000).endswith("[10000 characters]")
    assert len(param_text("v" * 10_000)) == MAX_PARAM


@pytest.mark.parametrize("value", [0.1, 1e-5, 3, True, None, "text", [1, 2.5], {"a": 1}])
def test_parameters_read_as_mlflow_would_write_them(value: object) -> None:
    """A user who logs the same parameter again must not be told that it changed."""
    assert param_text(value) == str(value)


def test_equal_configurations_have_equal_hashes() -> None:
    """Whatever the order of their keys."""
    assert config_sha256({"a": 1, "b": [2]}) == config_sha256({"b": [2], "a": 1})
    assert config_sha256({"a": 1}) != config_sha256({"a": 2})
    assert json.loads(config_json({"b": "ü", "a": 0.1})) == {"a": 0.1, "b": "ü"}
