"""The study pages in a browser: what a newcomer clicks through, live updates, keyboard, hostile names."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow import MlflowClient

from hpo_core import Categorical, Float, Int
from tests.ui.browser import Tab
from tests.ui.conftest import Site

HOSTILE = "<img src=x onerror=alert(1)>"


def errors(tab: Tab) -> list[str]:
    """What went wrong in the page since the last question."""
    found, tab.problems = tab.problems, []
    return found


def test_the_walk_from_the_list_to_a_comparison(site: Site, tab: Tab) -> None:
    """List, study, best trial, its configuration; choose two trials and compare them; no script complains."""
    script = site.study("walk")
    for value in (0.5, 0.25, 0.75):
        script.run(value, steps=4)
    script.finish(script.begin(), state="failed", reason="it broke")
    script.stop()
    site.show(script)
    tab.size(1200, 900)
    tab.open(f"{site.server.uri}/hpo")
    tab.until("[...document.querySelectorAll('td a')].some(a => a.innerText === 'walk')")
    tab.run("[...document.querySelectorAll('td a')].find(a => a.innerText === 'walk').click()")
    tab.until("document.querySelector('.big') && document.querySelectorAll('tbody tr').length === 4")
    assert tab.run("document.querySelector('.big').innerText") == "0.25"
    assert "3 complete" in tab.text()
    assert "1 failed" in tab.text()
    assert "it broke (trial 3)" in tab.text()
    assert tab.run("document.querySelector('svg').getAttribute('aria-label')") == (
        "4 finished trials; best loss 0.25 by trial 1"
    )
    assert tab.run("document.querySelectorAll('tbody tr')[0].innerText").split()[:2] == ["1", "1"]
    tab.run("for (const t of [0, 1]) document.querySelector(`[data-key=choose-${t}]`).click()")
    tab.run("document.querySelector('[data-key=compare]').click()")
    tab.until("document.querySelectorAll('figure svg').length === 1")
    lr = tab.run(
        "[...document.querySelectorAll('tr.differs')].find(r => r.innerText.startsWith('lr')).innerText"
    )
    assert [float(cell) for cell in lr.split()[-2:]] == pytest.approx(
        [script.study.trials[n].params["lr"] for n in (0, 1)], rel=1e-4
    )
    tab.run("document.querySelector('thead a').click()")
    tab.until("document.querySelector('h1')?.innerText === 'Trial 0'")
    tab.until("document.querySelector('[data-curve=loss] path.series')")
    assert "place 2 of 3 complete trials" in tab.text()
    assert errors(tab) == []


def test_a_new_best_appears_without_reload_and_the_keyboard_stays(site: Site, tab: Tab) -> None:
    """A better trial is shown and said; a sort button that had the focus and was pressed keeps it."""
    script = site.study("live")
    script.run(0.5)
    script.run(0.75)
    run = site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('.big')?.innerText === '0.5'")
    tab.until("document.querySelector('[data-key=sort-trial]')")
    tab.run("window.marked = true; document.querySelector('[data-key=sort-trial]').focus()")
    tab.press("Enter", 13)
    tab.until("document.querySelector('th[aria-sort=ascending]')?.innerText.startsWith('trial')")
    tab.press("Enter", 13)
    tab.until("document.querySelector('th[aria-sort=descending]')?.innerText.startsWith('trial')")
    script.run(0.125)
    site.show(script)
    tab.until("document.querySelector('.big').innerText === '0.125'")
    tab.until("document.querySelectorAll('tbody tr').length === 3")
    assert "New best: trial 2, loss 0.125" in tab.run("document.getElementById('said').textContent")
    assert tab.run("document.activeElement.dataset.key") == "sort-trial"
    assert tab.run("window.marked") is True
    assert errors(tab) == []


def test_the_page_orders_trials_as_the_server_does(site: Site, tab: Tab) -> None:
    """By every column, both ways, and by state: values that are equal, missing, text and numbers."""
    space = {
        "x": Float(0, 1),
        "kind": Categorical(["a", "b", 3, True]),
        "only": Float(0, 1).when("kind", "a"),
    }
    script = site.study("ordered", space=space, objectives={"loss": "min", "size": "max"})
    for i in range(40):
        if i % 9 == 4:
            script.finish(script.begin(), state="failed", reason="it broke")
        else:
            script.finish(script.begin(), {"loss": float(i * 7 % 5), "size": float(i * 3 % 4)})
    run = site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until(f"trialsOf('{run}').ready")
    named = ("value:loss", "value:size", "param:x", "param:kind", "param:only")
    for sort in ("rank", "trial", "state", "step", *named):
        for order in ("asc", "desc"):
            for state in ("", "failed"):
                query = {"sort": sort, "order": order, "state": state, "offset": 5, "limit": 30}
                _, table, _ = site.ask(f"api/studies/{run}/trials?{urllib.parse.urlencode(query)}")
                shown = tab.run(f"trialsOf('{run}').page({json.dumps(query)})")
                for name in ("total", "params", "objectives", "states"):
                    assert shown[name] == table[name]
                for name in ("trial", "rank", "state", "values", "params", "run_id"):
                    assert [r[name] for r in shown["rows"]] == [r[name] for r in table["rows"]], query
    assert errors(tab) == []


def test_a_parameter_that_is_none_is_not_shown_as_an_inactive_one(site: Site, tab: Tab) -> None:
    """In the table, as the best configuration, on the trial's page and side by side."""
    space = {
        "depth": Categorical([None]),
        "kind": Categorical(["a", "b"]),
        "only": Float(0, 1).when("kind", "a"),
    }
    script = site.study("nothing", space=space)
    while len({trial.params["kind"] for trial in script.study.trials}) < 2:
        script.run(1.0)
    without = next(t.number for t in script.study.trials if t.params["kind"] == "b")
    run = site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until(
        f"trialsOf('{run}').ready && document.querySelector('tbody tr') && document.querySelector('dl')"
    )
    assert tab.run("document.querySelector('dl').innerText").split()[:2] == ["depth", "null"]
    row = tab.run(f"document.querySelector('[data-key=trial-{without}]').closest('tr').innerText").split()
    assert row[-3:] == ["null", "b", "–"]
    tab.open(f"{site.server.uri}/hpo/studies/{run}/trials/{without}")
    tab.until("document.querySelector('tbody tr th')")
    assert tab.run("document.querySelector('tbody tr').innerText").split()[:2] == ["depth", "null"]
    tab.open(f"{site.server.uri}/hpo/studies/{run}/compare?trials=0,{without or 1}")
    tab.until("document.querySelector('tr.differs')")
    assert "depth null null" in " ".join(tab.text().split())
    assert errors(tab) == []


def test_a_click_needs_no_server(site: Site, tab: Tab) -> None:
    """Once a study is there: sorting, paging, opening, comparing and going back, all without an answer."""
    script = site.study("alone")
    for i in range(30):
        script.run(1.0 + i, steps=2)
    run = site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until(f"trialsOf('{run}').ready && document.querySelectorAll('tbody tr').length === 25")
    tab.until("known('studies')")
    tab.run("window.fetch = () => new Promise(() => {})")
    for key in ("sort-trial", "sort-trial", "after"):
        tab.run(f"document.querySelector('[data-key={key}]').click()")
    assert tab.run("[...document.querySelectorAll('tbody a')].map(a => a.innerText)") == [*"43210"]
    tab.run("document.querySelector('[data-key=trial-3]').click()")
    where = "[document.title, document.querySelector('.big').innerText, document.activeElement.id]"
    assert tab.run(where) == ["Trial 3 · alone", "loss 4", "main"]
    assert "place 4 of 30 complete trials" in tab.text()
    tab.run("document.querySelector('[data-key=after]').click()")
    assert tab.run("document.querySelector('h1').innerText") == "Trial 4"
    tab.run("document.querySelector('[data-key=compare]').click()")
    assert tab.run("document.querySelectorAll('tr.differs').length") > 0
    tab.run("history.go(-3)")
    tab.until("document.querySelectorAll('tbody tr').length === 5")
    assert tab.run("document.querySelectorAll('figure svg').length") > 1
    assert tab.run("document.querySelector('th[aria-sort=descending]').innerText") == "trial"
    tab.run("document.querySelector('#crumbs a').click()")
    assert "alone" in tab.run("document.querySelector('main tbody').innerText")
    assert errors(tab) == []


@contextlib.contextmanager
def answering(tab: Tab, rule: str) -> Iterator[None]:
    """Pages get what ``rule``, a function of the path below ``/hpo/api/`` and of its answer, makes of it."""
    source = (
        "{ const ask = window.fetch; const rule = " + rule + ";"
        "window.fetch = (url, more) => rule(String(url).split('/hpo/api/')[1], () => ask(url, more)); }"
    )
    name = tab.call("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"]
    try:
        yield
    finally:
        tab.call("Page.removeScriptToEvaluateOnNewDocument", identifier=name)


def test_the_first_click_waits_for_nothing(site: Site, tab: Tab) -> None:
    """The trials come beside the study, not after it, and the table only with all of them."""
    script = site.study("early")
    for i in range(30):
        script.run(1.0 + i)
    run = site.show(script)
    without = f"(path, go) => path === 'studies/{run}' ? new Promise(() => {{}}) : go()"
    with answering(tab, without):
        tab.open(f"{site.server.uri}/hpo/studies/{run}")
        tab.until("document.querySelectorAll('tbody tr').length === 25")
    tab.run("window.fetch = () => new Promise(() => {})")
    tab.run("document.querySelector('[data-key=sort-rank]').click()")
    assert tab.run("document.querySelector('th[aria-sort=descending]').innerText") == "rank"
    assert tab.run("document.querySelector('tbody tr').innerText").split()[:2] == ["30", "29"]
    assert tab.run("document.querySelector('table').getAttribute('aria-busy')") is None
    tab.run("document.querySelector('[data-key=trial-29]').click()")
    assert "place 30 of 30 complete trials" in tab.text()
    assert errors(tab) == []


def test_repeats_and_their_confirmation_are_shown(site: Site, tab: Tab) -> None:
    """Mean ± spread in the table, on a trial's page and in a comparison; the verdict, with a link."""
    script = site.study("seeds", repeats=3)
    for values in ([1.0, 2.0, 3.0], [1.0, 1.2, 1.4], [9.0, 8.0]):
        script.repeat(values, "complete" if len(values) == 3 else "pruned")
    script.stop()
    again = site.study("seeds-confirm", repeats=2, confirms=script)
    other = site.show(again)
    run = site.show(script)
    tab.size(1200, 900)
    tab.open(f"{site.server.uri}/hpo/studies/{other}")
    verdict = "document.querySelector('.verdict')"
    tab.until(verdict)
    assert tab.run(f"{verdict}.innerText") == (
        "Runs the best trials of seeds again on 2 fresh seeds; the verdict follows when all are done."
    )
    again.repeat([1.1, 1.3])
    script.confirmed(again, "the winner, trial 1, holds")
    site.show(again)
    site.show(script)
    tab.until(f"{verdict}.innerText === 'Verdict on the trials of seeds: the winner, trial 1, holds.'")
    tab.run(f"{verdict}.querySelector('a').click()")
    tab.until("document.querySelector('h1')?.innerText === 'seeds'")
    tab.until("document.querySelectorAll('tbody tr').length === 3")
    assert tab.run(f"{verdict}.innerText") == "Verdict of seeds-confirm: the winner, trial 1, holds."
    assert tab.run("document.querySelector('.big').innerText") == "1.2 ± 0.20"
    assert "loss by trial 1, mean ± standard deviation over 3 seeds" in tab.text()
    rows = "[...document.querySelectorAll('section[aria-label=Trials] tbody tr')]"
    cells = f"{rows}.map(r => r.cells[4].innerText)"
    assert tab.run(cells) == ["1.2 ± 0.20", "2 ± 1.0", "8.5 ± 0.71"]
    tab.run("document.querySelector('[data-key=\"sort-value:loss\"]').click()")
    tab.run("document.querySelector('[data-key=\"sort-value:loss\"]').click()")
    assert tab.run(cells) == ["8.5 ± 0.71", "2 ± 1.0", "1.2 ± 0.20"]
    tab.run("document.querySelector('[data-key=trial-2]').click()")
    tab.until("document.querySelector('h1')?.innerText === 'Trial 2'")
    assert tab.run("document.querySelector('.big').innerText") == "loss 8.5 ± 0.71"
    assert "mean ± standard deviation over the first 2 of 3 seeds" in tab.text()
    tab.run("document.querySelector('[data-key=compare]').click()")
    tab.until("document.querySelector('h1')?.innerText === 'Compare trials'")
    compared = "[...document.querySelectorAll('tr')].find(r => r.innerText.startsWith('loss')).innerText"
    assert tab.run(compared).split("\t") == ["loss", "8.5 ± 0.71", "1.2 ± 0.20"]
    script.study.extend(now=script.now(), trials=200)
    script.repeat([0.5, 0.5, 0.5])
    site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until(f"{verdict}?.innerText.endsWith('Another trial has become the best since.')")
    assert tab.run("document.querySelector('.big').innerText") == "0.5 ± 0"
    assert errors(tab) == []


def test_a_click_that_needs_the_server_is_seen_at_once(site: Site, tab: Tab) -> None:
    """A study too large to be sent: the heading says what is being done while the server sorts."""
    script = site.study("large")
    for i in range(30):
        script.run(1.0 + i)
    run = site.show(script)
    sent = "Promise.resolve(new Response(JSON.stringify(data), { headers: { ETag: a.headers.get('ETag') } }))"
    large = (
        f"(path, go) => path.startsWith('studies/{run}/trials?') && window.held"
        " ? new Promise((done) => window.held.push(() => done(go())))"
        f" : path === 'studies/{run}' || path.includes('/blocks') ? go().then((a) => a.status === 304 ? a"
        f" : a.json().then((data) => {{ if (data.study) {{ data.study.blocks = null; data.blocks = {{}}; }}"
        f" else data.blocks = null; return {sent}; }})) : go()"
    )
    with answering(tab, large):
        tab.open(f"{site.server.uri}/hpo/studies/{run}")
        tab.until("document.querySelectorAll('tbody tr').length === 25")
    first = "document.querySelector('section[aria-label=Trials] tbody tr').innerText.split('\\t')[2]"
    assert tab.run(f"[trialsOf('{run}').ready, {first}]") == [False, "0"]
    tab.run("window.held = []; document.querySelector('[data-key=sort-rank]').click()")
    heading = "document.querySelector('th[aria-sort]').getAttribute('aria-sort')"
    busy = "document.querySelector('section[aria-label=Trials] table').getAttribute('aria-busy')"
    assert tab.run(f"[{heading}, {busy}, {first}]") == ["descending", "true", "0"]
    tab.until("window.held.length")
    tab.run("for (const go of window.held) go(); window.held = null")
    tab.until(f"{first} === '29'")
    assert tab.run(f"[{heading}, {busy}]") == ["descending", None]
    assert errors(tab) == []


def test_a_point_of_a_chart_says_what_it_is_and_leads_there(site: Site, tab: Tab) -> None:
    """The one nearest to the pointer; nothing where there is none."""
    script = site.study("points")
    for value in (0.5, 0.25, 0.75):
        script.run(value)
    run = site.show(script)
    tab.size(1200, 900)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('figure path.leader')")
    x, y, left = tab.run(
        "(() => { const r = document.querySelector('figure path.leader').getBoundingClientRect();"
        "const s = document.querySelector('figure svg').getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2, s.x] })()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 3, y=y)
    assert tab.run("document.querySelectorAll('.tip:not([hidden])').length") == 0
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 4, y=y - 3)
    tab.until("document.querySelectorAll('.tip:not([hidden])').length === 1")
    assert tab.run("document.querySelector('.tip:not([hidden])').innerText") == "best: trial 1, 0.25"
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    tab.until("document.querySelector('h1')?.innerText === 'Trial 1'")
    assert errors(tab) == []


def test_a_trial_that_broke_a_bound_is_not_said_to_have_no_value(site: Site, tab: Tab) -> None:
    """It has one, which its own page shows, and which does not count."""
    script = site.study("bound", constraints=["latency <= 10"])
    for latency in (5.0, 20.0):
        trial = script.begin()
        script.report(trial, 1, loss=0.1, latency=latency)
        script.finish(trial, 0.1)
    run = site.show(script)
    tab.size(1200, 900)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('figure path.failed')")
    assert "red ticks: no value that counts" in tab.run("document.querySelector('section .note').innerText")
    x, y = tab.run(
        "(() => { const r = document.querySelector('figure path.failed').getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2] })()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tab.until("document.querySelectorAll('.tip:not([hidden])').length === 1")
    told = f"trial {trial}: no value that counts"
    assert tab.run("document.querySelector('.tip:not([hidden])').innerText") == told
    assert errors(tab) == []


def test_axes_and_names_can_be_read(site: Site, tab: Tab) -> None:
    """Two ticks at least, whole steps, long choices apart; a curve of one point is seen beside others."""
    long = [f"a_choice_with_a_long_name_{end}" for end in ("one", "two", "three")]
    script = site.study("axes", space={"x": Float(0, 1), "kind": Categorical(long)})
    for i in range(9):
        trial = script.begin()
        for step in range(1, 3 if i else 2):
            script.report(trial, step, loss=0.993 - 0.0005 * i)
        script.finish(trial, 0.993 - 0.0005 * i)
    run = site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelectorAll('.slices svg').length === 2")
    panels = "[...document.querySelectorAll('.slices svg')]"
    ends = "[...s.querySelectorAll('text[text-anchor=end]')].map(t => t.textContent)"
    for labels in tab.run(f"{panels}.map(s => {ends})"):
        assert len(set(labels)) >= 2
    kinds = tab.run(
        f"{panels}.map(s => [...s.querySelectorAll('text')].filter(t => t.querySelector('title')).map(t => ["
        "t.firstChild.data, t.querySelector('title').textContent, t.getBoundingClientRect().left,"
        "t.getBoundingClientRect().right])).flat()"
    )
    assert [name for _, name, _, _ in kinds] == long
    assert len({shown for shown, *_ in kinds}) == 3
    assert all(a[3] <= b[2] for a, b in itertools.pairwise(kinds))
    tab.open(f"{site.server.uri}/hpo/studies/{run}/compare?trials=0,1,2")
    tab.until("document.querySelectorAll('figure path.series').length === 2")
    assert tab.run("document.querySelectorAll('figure circle.alone').length") == 1
    marks = tab.run(
        "[...document.querySelectorAll('figure text[text-anchor=middle]')].map(t => t.textContent)"
    )
    assert not [mark for mark in marks if "." in mark]
    assert errors(tab) == []


@pytest.mark.parametrize(
    ("name", "results", "nought"),
    [
        ("far", [1.7e308, -1.7e308, 1.0], True),
        ("either side", [-0.61, 0.58, 0.1, 0.35], True),
        ("close", [1.21e9, 1.2103e9, 1.2104e9, 1.2108e9], False),
        ("closer", [1e9, 1e9 + 2e-6, 1e9 + 4e-6, 1e9 + 7e-6], False),
    ],
)
def test_results_of_any_size_have_places_and_ticks_that_are_told_apart(
    site: Site, tab: Tab, name: str, results: list[float], nought: bool
) -> None:
    """The distance of the largest is no number, sums of steps miss the nought, and each tick was 1.2e9."""
    script = site.study(name, space={"x": Float(0, 1)})
    for result in results:
        script.run(result)
    run = site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('.slices svg')")
    history = "document.querySelector('section figure')"
    ticks = tab.run(f"[...{history}.querySelectorAll('text[text-anchor=end]')].map(t => t.textContent)")
    drawn = tab.run(f"{history}.querySelector('.point').getAttribute('d')")
    places = re.findall(r"M[\d.]+ ([\d.]+)a", drawn)
    shown = [tick for tick in ticks if float(tick) != len(results)]
    assert len(set(shown)) == len(shown) >= 2
    assert ("0" in shown) == nought
    assert len(places) == len(set(places)) == len(results)
    inside = "t => t.getBoundingClientRect().left >= t.closest('figure').getBoundingClientRect().left"
    assert tab.run(f"[...{history}.querySelectorAll('text')].every({inside})")
    assert errors(tab) == []


@pytest.mark.parametrize("width", [375, 1200])
def test_long_names_leave_the_rest_on_the_page(site: Site, tab: Tab, width: int) -> None:
    """Of a study, an objective and a parameter: no page is wider than its window; the list shows states."""
    strategy = {"name": "random+threshold", "upper": 1.0, "metric": "m" * 120}
    names: dict[str, Any] = {"space": {"p" * 120: Float(0, 1)}, "objectives": {"o" * 120: "min"}}
    script = site.study(f"{width:N<120}", strategy=strategy, **names)
    script.run(0.25)
    run = site.show(script)
    tab.size(width, 900)
    wide = "document.documentElement.scrollWidth > innerWidth"
    for page, ready in (
        ("", ".scroll td"),
        (f"/studies/{run}", ".slices svg"),
        (f"/studies/{run}/trials/0", ".big"),
    ):
        tab.open(f"{site.server.uri}/hpo{page}")
        tab.until(f"document.querySelector('{ready}')")
        assert not tab.run(wide), page
    tab.open(f"{site.server.uri}/hpo")
    tab.until("document.querySelector('.scroll td')")
    assert tab.run("document.querySelector('td .state').getBoundingClientRect().left < innerWidth")
    begun = "document.querySelector('td:last-child').getBoundingClientRect().right <= innerWidth"
    assert tab.run(begun) == (width == 1200)


def test_an_axis_of_whole_numbers_has_no_ticks_between_them(site: Site, tab: Tab) -> None:
    """A network of 3 layers stood between 2.8 and 3.2 of them."""
    script = site.study("whole", space={"layers": Int(3, 4)})
    for _ in range(2):
        script.run(0.5)
    tab.open(f"{site.server.uri}/hpo/studies/{site.show(script)}")
    tab.until("document.querySelector('.slices svg')")
    below = "document.querySelectorAll('.slices text:not([text-anchor=end])')"
    ticks = tab.run(f"[...{below}].map(t => t.textContent)")
    assert ticks
    assert {float(tick) for tick in ticks} <= {3.0, 4.0}


def test_names_of_many_choices_do_not_lie_upon_one_another(site: Site, tab: Tab) -> None:
    """They did, whatever their number. Those that differ in a letter are told apart, emoji are not halved."""
    kinds = [f"https://models.example.org/resnet-{i}/weights" for i in range(6)]
    cities = [f"city {i}" for i in range(40)]
    moods = ["\N{GRINNING FACE}" * n for n in range(1, 4)] + ["\N{GRINNING FACE}" * 9, "\N{ROCKET}" * 9]
    space = {"kind": Categorical(kinds), "city": Categorical(cities), "mood": Categorical(moods)}
    script = site.study("crowded", space=space)
    for i in range(40):
        script.study.enqueue({"kind": kinds[i % 6], "city": cities[i], "mood": moods[i % 5]})
        script.run(float(i))
    run = site.show(script)
    tab.size(1200, 900)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelectorAll('.slices svg').length === 3")
    shown = tab.run(
        "[...document.querySelectorAll('.slices svg')].map(s =>"
        "[...s.querySelectorAll('text[transform]')].map(t => {"
        "const r = t.getBoundingClientRect(); return [t.firstChild.data, r.left, r.right, r.bottom,"
        "s.getBoundingClientRect().bottom] }))"
    )
    assert [len(names) for names in shown[::2]] == [6, 5]
    assert 8 <= len(shown[1]) < 40
    for names in shown:
        assert all(a[2] <= b[1] for a, b in itertools.pairwise(names))
        assert all(bottom <= end for *_, bottom, end in names)
        assert len({name for name, *_ in names}) == len(names)
    assert all(str(i) in name for i, (name, *_) in enumerate(shown[0]))
    assert [name for name, *_ in shown[2]][:3] == moods[:3]
    assert {letter for name, *_ in shown[2] for letter in name} == {
        *moods[3],
        *moods[4],
        "\N{HORIZONTAL ELLIPSIS}",
    }
    assert errors(tab) == []


def test_a_page_says_what_it_leaves_out_and_keeps_the_order_of_the_space(site: Site, tab: Tab) -> None:
    """Twelve of fourteen parameters and two of three objectives were shown as if there were no more."""
    names = [f"p{i}" for i in range(13, -1, -1)]
    objectives = {"a": "min", "b": "max", "c": "min"}
    script = site.study("abridged", space={name: Float(0, 1) for name in names}, objectives=objectives)
    script.finish(script.begin(), {"a": 1.0, "b": 1.0, "c": 1.0})
    run = site.show(script)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelectorAll('.slices svg').length === 12")
    assert "12 of 14 parameters" in tab.text()
    assert "the first two of 3 objectives" in tab.text()
    tab.open(f"{site.server.uri}/hpo/studies/{run}/trials/0")
    tab.until("document.querySelectorAll('tbody th').length === 14")
    rows = "[...document.querySelectorAll('tbody th')].map(h => h.innerText)"
    assert tab.run(rows) == names
    tab.until("document.querySelector('dl.left')")
    assert tab.run(rows) == names
    assert errors(tab) == []


def test_a_long_name_pushes_no_value_out_of_sight(site: Site, tab: Tab) -> None:
    """It took all of the width: the best values stood upright, the others where nobody saw them."""
    script = site.study("long", space={"n" * 200: Float(0.0, 1.0)})
    for value in (0.5, 0.25):
        script.run(value)
    script.stop()
    page = f"{site.server.uri}/hpo/studies/{site.show(script)}"
    tab.size(1200, 900)
    tab.open(page)
    tab.until("document.querySelector('dl dd')")
    assert tab.run("document.querySelector('dl dd').clientWidth") > 60
    for address in (f"{page}/trials/0", f"{page}/compare?trials=0,1"):
        tab.open(address)
        tab.until("document.querySelector('tbody th') && document.querySelector('tbody td')")
        inside = (
            "[...document.querySelectorAll('tbody td')].every(d => d.getBoundingClientRect().right < 1200)"
        )
        assert tab.run(inside)
    assert errors(tab) == []


def test_cancel_from_the_page_ends_the_study(site: Site, tab: Tab) -> None:
    """What cannot be done says why; Cancel asks, does it, and the page follows. Only one page was loaded."""
    script = site.study("stop-me")
    script.run(0.5)
    run = site.show(script)
    script.close()
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('[data-key=cancel]')")
    assert tab.run("document.querySelector('[data-key=retry]').title") == "no trial ended badly"
    tab.run("document.querySelector('[data-key=retry]').click()")
    assert tab.run(
        "[document.querySelector('.refused').innerText, document.querySelector('dialog').open]"
    ) == [
        "Retry failed is not possible: no trial ended badly.",
        False,
    ]
    tab.run("document.querySelector('[data-key=cancel]').click()")
    tab.until("document.querySelector('dialog[open]')")
    tab.run("document.querySelector('dialog button.main').click()")
    tab.until("document.querySelector('.message.good, .message.bad')")
    assert "is cancelled; nothing was running" in tab.run("document.querySelector('.message').innerText")
    assert "cancelled on request" in (script.folder / "journal.jsonl").read_text()
    site.show(script)
    tab.until("document.querySelector('.head .state').innerText === 'cancelled'")
    tab.press("Escape", 27)
    tab.until("document.activeElement.dataset.key === 'cancel'")
    assert errors(tab) == []


def test_a_page_of_nothing_says_so_and_leads_to_the_list(site: Site, tab: Tab) -> None:
    """Of a study that was deleted, and of an address that is none; one that is back is shown again."""
    script = site.study("deleted")
    script.run(0.5)
    run = site.show(script)
    client = MlflowClient(site.server.uri)
    client.delete_run(run)
    for path in (run, "%E0%A4", f"{run}/trials/0", f"{run}/compare"):
        tab.open(f"{site.server.uri}/hpo/studies/{path}")
        tab.until("document.querySelector('main .empty')")
        assert tab.run("document.querySelector('main').innerText").startswith("there is no such study")
        assert tab.run("document.querySelector('#crumbs a').innerText") == "Studies"
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('main .empty')")
    client.restore_run(run)
    tab.until("document.querySelector('.big')?.innerText === '0.5'")
    client.delete_run(run)
    tab.until("document.getElementById('live').className === 'lost'")
    assert tab.run("document.querySelector('.big').innerText") == "0.5"
    tab.run("document.querySelector('#crumbs a').click()")
    tab.until("document.querySelector('h1').innerText === 'Studies'")
    assert all("404" in error for error in errors(tab))


def test_hostile_text_stays_text(site: Site, tab: Tab) -> None:
    """A choice and a reason that are HTML are shown as they are."""
    space = {HOSTILE: Categorical([HOSTILE, "b"]), "x": Float(0, 1)}
    script = site.study("hostile", space=space)
    for value in (0.1, 0.2):
        script.run(value)
    script.stop("finished", HOSTILE)
    run = site.show(script)
    for page in ("", "/trials/0", "/compare?trials=0,1"):
        tab.open(f"{site.server.uri}/hpo/studies/{run}{page}")
        tab.until(
            f"document.body.innerText.includes({json.dumps(HOSTILE)}) && document.querySelector('table')"
        )
        assert tab.run("document.querySelectorAll('img').length") == 0
    assert errors(tab) == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_in_light_and_dark(site: Site, tab: Tab, dark: bool) -> None:
    """Body, quiet text and links have a contrast of 4.5 against the card they lie on (WCAG 2.1, 1.4.3)."""
    tab.size(1200, 900, dark=dark)
    tab.open(f"{site.server.uri}/hpo")
    tab.until("document.querySelector('.card')")
    colours = tab.run(
        "(() => { const s = getComputedStyle(document.documentElement);"
        "return Object.fromEntries(['card', 'page', 'text', 'quiet', 'link', 'bad', 'good', 'warn', 'best']"
        ".map(n => [n, s.getPropertyValue('--' + n).trim()])) })()"
    )
    for name in ("text", "quiet", "link", "bad", "good", "warn", "best"):
        for ground in ("card", "page"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    tab.size(1200, 900)


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` or ``#rgb`` (WCAG 2.1)."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
