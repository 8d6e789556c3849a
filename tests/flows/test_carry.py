"""What is loaded beside the trials, so that the user does not wait for it after them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import _carry
from tracking import _models


@pytest.fixture
def needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modules that can be imported, and between them one that cannot."""
    (tmp_path / "needed_for_the_model.py").write_text("")
    (tmp_path / "needed_for_the_report.py").write_text("")
    (tmp_path / "needed_and_broken.py").write_text("raise OSError('no such driver')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(_models, "_WRITERS", {"lightgbm": ("needed_and_broken", "needed_for_the_model")})
    monkeypatch.setattr(_carry, "_FLAVORS", {"lgbm": ("lightgbm",)})
    monkeypatch.setattr(_carry, "_FOR_THE_REPORT", ("needed_for_the_report",))
    monkeypatch.setattr(_carry, "_LOOK_SECONDS", 0.001)
    for name in ("needed_for_the_model", "needed_for_the_report"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def loaded(*, complete: list[int], run: str | None = "run", table: str | None = "lgbm") -> set[str]:
    """What is loaded in a session that has so many complete trials whenever it is looked at."""

    async def connected() -> None:
        current.parent_run = run

    def count(state: object) -> int:
        if complete[0] == 0:
            assert "needed_for_the_report" not in sys.modules
        return complete.pop(0)

    current: Any = SimpleNamespace(
        study=SimpleNamespace(history=SimpleNamespace(count=count)), connected=connected, parent_run=None
    )
    plan: Any = SimpleNamespace(table=table and SimpleNamespace(name=table))
    asyncio.run(_carry._load_for_the_end(current, plan))
    return {name for name in sys.modules if name.startswith("needed_")}


@pytest.mark.usefixtures("needed")
def test_what_the_end_needs_is_loaded_once_a_trial_is_complete() -> None:
    assert loaded(complete=[0, 0, 1]) == {"needed_for_the_model", "needed_for_the_report"}


@pytest.mark.usefixtures("needed")
def test_without_a_run_no_model_is_logged_and_without_a_table_none_is_made() -> None:
    assert loaded(complete=[1], run=None) == {"needed_for_the_report"}
    for name in list(sys.modules):
        if name.startswith("needed_"):
            del sys.modules[name]
    assert loaded(complete=[], table=None) == set()
