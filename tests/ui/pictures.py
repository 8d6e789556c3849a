"""The README's pictures of the study pages, taken anew from a server that has a tuned study.

    python -m tests.ui.pictures http://127.0.0.1:5000 breast-cancer docs/images

The study is that of ``make tune``; its best trial holds the alias, so the promotion that is rehearsed here
is one of its second-best trial.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from tests.ui.browser import Tab, browser

_DRAWN = "document.querySelector('figure svg') && document.querySelectorAll('tbody tr').length > 1"


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("study")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    pages = f"{given.server}/hpo"
    run = next(s["run_id"] for s in asked(f"{pages}/api/studies") if s["name"] == given.study)
    leaders = [row["trial"] for row in asked(f"{pages}/api/studies/{run}/trials?limit=4")["rows"]]
    study = f"{pages}/studies/{run}"
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as tab:
        take(tab, given.folder / "ui-list.png", (1100, 270), pages, "document.querySelector('tbody tr')")
        take(tab, given.folder / "ui-study.png", (1100, 980), study, _DRAWN)
        rehearse(tab, leaders[1])
        take(tab, given.folder / "ui-promote.png", (1200, 760))
        compared = f"{study}/compare?trials={','.join(map(str, sorted(leaders)))}"
        take(tab, given.folder / "ui-compare.png", (1100, 1120), compared, _DRAWN, dark=True)


def asked(url: str) -> Any:
    """The server's answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def take(
    tab: Tab, path: Path, size: tuple[int, int], url: str = "", ready: str = "true", *, dark: bool = False
) -> None:
    """One picture, of another page if there is a URL."""
    tab.size(*size, dark=dark)
    if url:
        tab.open(url)
    tab.until(ready)
    tab.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")
    tab.picture(path)


def rehearse(tab: Tab, trial: int) -> None:
    """Open the dialog and let it say what the gate would."""
    tab.run("document.querySelector('[data-key=promote]').click()")
    tab.run(f"document.getElementById('field-trial').value = {trial}")
    tab.run("[...document.querySelectorAll('dialog button')].find(b => b.innerText === 'Only check').click()")
    tab.until("document.querySelector('.message.good, .message.bad')")


if __name__ == "__main__":
    main()
