"""``hpo confirm``: is the winner still the best on seeds that had no part in choosing it?"""

from __future__ import annotations

import json
import shlex

import typer
from rich.table import Table

from flows._confirm import Wish, concluded, plan_confirmation, results_table
from flows._find import find
from flows._live import make_console
from flows._words import printable
from flows.cli._output import only_json
from flows.cli._promote import has_model
from flows.cli._tune import watched


def confirm(wish: Wish, *, as_json: bool) -> int:
    """See ``hpo confirm``; 0 with a verdict, 1 where every configuration failed."""
    with only_json(as_json):
        plan = plan_confirmation(wish)
    result = watched(plan, as_json=as_json)
    done = None if result is None else concluded(wish, result)
    if done is None:
        typer.echo("hpo: not all fresh seeds have been run; the same command goes on", err=True)
        return 130
    found, data = done
    if as_json:
        typer.echo(json.dumps(data))
        return 0 if found.trial is not None else 1
    columns, rows = results_table(found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = make_console()
    console.print()
    console.print(table)
    console.print()
    typer.echo(printable(data["sentence"]))
    for leader in found.leaders[1:]:
        if leader.reason:
            typer.echo(printable(f"trial {leader.trial} failed on fresh seeds: {leader.reason}"))
    if found.trial is None:
        return 1
    if has_model(find(wish.study), found.trial, (wish.terms or {}).get("tracking_uri")):
        typer.echo(f"hpo promote {shlex.quote(wish.study)} --trial {found.trial}")
    return 0
