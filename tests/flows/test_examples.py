"""Every example runs as it stands."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.flows.conftest import Place

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path: Path, tracked: Place, capsys: pytest.CaptureFixture[str]) -> None:
    if path.stem == "asha_checkpoints":
        pytest.importorskip("torch")
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr()
    assert said.out.strip()
    assert "Traceback" not in said.out + said.err
