"""A report in a browser."""

from __future__ import annotations

import sys
from pathlib import Path

from hpo_core import Float, Int, Study
from tests.ui.browser import Tab
from tracking import write_report


def test_a_figure_that_the_browser_cannot_draw_leaves_the_others(tab: Tab, tmp_path: Path) -> None:
    """Parallel coordinates know no numbers from one end of the range to the other; none came after them."""
    study = Study({"x": Float(0, 1), "depth": Int(1, 9)}, strategy="random")
    for value in (sys.float_info.max, -sys.float_info.max, 1.0, 2.0):
        study.tell(study.ask(), value)
    page = write_report(study, tmp_path)[0]
    tab.size(1200, 6000)
    tab.open(page.as_uri())
    figures = "[...document.querySelectorAll('[data-figure]')]"
    tab.until(f"{figures}.length && {figures}.every(f => f.querySelector('svg') || f.innerText)")
    said = tab.run(f"{figures}.filter(f => !f.querySelector('svg')).map(f => f.innerText)")
    assert all(text.startswith("It could not be drawn: ") for text in said)
    assert len(said) < tab.run(f"{figures}.length") - 2
    assert tab.run("document.getElementById('trouble').hidden")
