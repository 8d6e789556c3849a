"""Strategies by name, dict and object, and back from the journal."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hpo_core import Float, SearchSpace, StrategyError, Study, make_strategy, strategy_names
from hpo_core._history import History
from hpo_core._strategies import PAIRS, SAMPLERS, SCHEDULERS, compose
from hpo_core._strategy import Proposal, Sampler, Scheduler
from hpo_core.samplers import Grid, Random
from hpo_core.schedulers import ASHA, Full, Levels
from tests.hpo_core.stubborn import Stubborn
from tests.hpo_core.studies import LINE, recorded, replayed


@dataclass(frozen=True)
class Part:
    """An option that is a record itself."""

    depth: int = 3


@dataclass(frozen=True, kw_only=True)
class Fancy:
    """A sampler of somebody else's, with options of many kinds and a memo."""

    rate: float = 0.5
    names: tuple[str, ...] = ()
    part: Part = field(default_factory=Part)
    anything: Any = None
    label: object = field(default=None, compare=False)
    """What makes no difference, and is not kept."""
    _memo: dict[int, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"a rate below zero: {self.rate}")

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Anything goes."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """A point made of the options."""
        self._memo[history.n_trials] = 1
        return Proposal(np.full(history.space.dims, self.rate / self.part.depth), str(self.names))


def test_every_name_is_listed_once() -> None:
    names = strategy_names()
    assert names == sorted(set(names))
    assert set(SAMPLERS) <= set(names)
    assert set(PAIRS) <= set(names)
    assert "full" not in names


@pytest.mark.parametrize("name", sorted({*SAMPLERS, *SCHEDULERS} - {"threshold"}))
def test_every_name_makes_what_it_says(name: str) -> None:
    strategy = make_strategy(name)
    assert isinstance(strategy.sampler, Sampler)
    assert isinstance(strategy.scheduler, Scheduler)
    assert strategy.name == name
    again = make_strategy(json.loads(json.dumps(strategy.config)))
    assert again.config == strategy.config
    assert (again.sampler, again.scheduler) == (strategy.sampler, strategy.scheduler)


@pytest.mark.parametrize(
    ("given", "sampler", "scheduler"),
    [
        ("random", Random(), Full()),
        ("random+asha", Random(), ASHA()),
        ("random + asha", Random(), ASHA()),
        ("random+multi_fidelity", Random(), Levels()),
        ({"name": "random+asha"}, Random(), ASHA()),
        ({"sampler": "random"}, Random(), Full()),
        (
            {"sampler": {"name": "grid", "resolution": 3}, "scheduler": {"name": "asha", "eta": 4}},
            Grid(resolution=3),
            ASHA(eta=4),
        ),
        ({"sampler": Grid(resolution=3), "scheduler": "asha"}, Grid(resolution=3), ASHA()),
        (Grid(resolution=3), Grid(resolution=3), Full()),
        (compose(Random(), ASHA(eta=2)), Random(), ASHA(eta=2)),
        ({"name": "random + asha", "eta": 2, "min_steps": 4}, Random(), ASHA(eta=2, min_steps=4)),
        ({"name": "grid", "resolution": 3}, Grid(resolution=3), Full()),
        ({"name": "random"}, Random(), Full()),
        ({"name": "mine", "sampler": "random"}, Random(), Full()),
        (
            ' {"name": "random+asha", "metric": "auc", "direction": "max"}',
            Random(),
            ASHA(metric="auc", direction="max"),
        ),
        ('{"sampler": "random", "scheduler": {"name": "asha", "eta": 4}}', Random(), ASHA(eta=4)),
    ],
)
def test_names_dicts_and_objects_say_the_same(given: Any, sampler: Any, scheduler: Any) -> None:
    strategy = make_strategy(given)
    assert (strategy.sampler, strategy.scheduler) == (sampler, scheduler)
    assert strategy.words.startswith(strategy.name)
    again = make_strategy(json.loads(json.dumps(dict(strategy.config))))
    assert (again.sampler, again.scheduler, again.name) == (sampler, scheduler, strategy.name)


def test_a_strategy_says_which_options_it_was_given() -> None:
    assert make_strategy({"name": "grid+asha", "eta": 2, "resolution": 3}).words == (
        "grid+asha (resolution=3, eta=2)"
    )
    assert make_strategy("bohb").words == "bohb"
    names = ["rate", "decay", "momentum"]
    assert make_strategy({"name": "pbt", "parameters": names}).words == f"pbt (parameters={names})"
    # Of pbt with a ready objective it was the whole width of the list of studies, and more.
    assert make_strategy({"name": "pbt", "parameters": [*names, "size"]}).words == "pbt (4 parameters)"


def test_a_scheduler_alone_goes_with_the_default_sampler() -> None:
    assert type(make_strategy(ASHA()).sampler).__name__ == "Auto"


def test_an_object_of_your_own_is_found_again_with_its_options() -> None:
    mine = Fancy(rate=0.9, names=("a", "b"), part=Part(depth=9), label=object())
    strategy = make_strategy(mine)
    config = json.loads(json.dumps(dict(strategy.config)))
    assert config["sampler"]["name"].endswith("test_strategies:Fancy")
    again = make_strategy(config)
    assert isinstance(again.sampler, Fancy)
    assert (again.sampler.rate, list(again.sampler.names), again.sampler.part) == (
        0.9,
        ["a", "b"],
        Part(depth=9),
    )
    assert make_strategy(Fancy()).config["sampler"] == {"name": config["sampler"]["name"]}
    assert make_strategy(ASHA(eta=3)).config["scheduler"] == {"name": "asha"}
    study, journal = recorded(LINE, strategy=mine)
    study.tell(study.ask(), 1.0)
    resumed = replayed(journal)
    assert resumed.ask().params == study.ask().params


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("tpe2", "unknown strategy 'tpe2'; did you mean 'tpe'.*known: asha"),
        ("TPE", "unknown strategy 'TPE'; did you mean 'tpe'"),
        ("gp+ahsa", "unknown strategy 'ahsa'; did you mean 'asha'"),
        ("gp+levles", "unknown strategy 'levles'; did you mean 'levels'"),
        ("rndom+asha", "unknown strategy 'rndom'; did you mean 'random'"),
        ("asha+gp", r"the sampler comes first: write 'gp\+asha'"),
        ("multi_fidelity+gp", r"the sampler comes first: write 'gp\+multi_fidelity'"),
        ("asha+median", "one sampler and at most one scheduler, .* 'asha' and 'median' are both schedulers"),
        ("gp+asha+median", "'asha' and 'median' are both schedulers"),
        ("tpe+gp+random", "'tpe', 'gp' and 'random' are all samplers"),
        ("", "unknown strategy ''"),
        (None, "a strategy is a name .*, a dict or an object, got None"),
        (Random, r"a strategy is an object and not a class; make one: Random\(\)"),
        ({"sampler": "random", "schedular": "asha"}, "got 'schedular'; did you mean 'scheduler'"),
        (
            {"sampler": {"name": "grid", "resolutoin": 3}},
            "has no option 'resolutoin'; did you mean 'resolution'",
        ),
        ({"sampler": {"name": "grid", "resolution": 0}}, "resolution of every parameter must be .* got 0"),
        (
            {"sampler": {"name": "tests.hpo_core.test_strategies:Fancy", "rate": -1.0}},
            "Fancy' with {'rate': -1.0}: a rate below zero: -1.0",
        ),
        ({"sampler": "nowhere.at_all:Thing"}, "cannot be imported .*must be importable by its name"),
        ({"sampler": {"name": "tests.hpo_core.stubborn:Stubborn", "v": 1}}, "has no option 'v'"),
        (
            {"name": "random+asha", "et": 2},
            r"no option 'et'; did you mean 'eta'.*\(random: none; asha: eta, ",
        ),
        ({"name": "asha", "sampler": "tpe"}, "'asha' is a strategy by itself"),
        ({"name": {"name": "asha"}}, "the name of a strategy is text"),
        ({"name": "nsga2+pbt", "population": 8}, r"both parts of .* have an option 'population'; say whose"),
        ({"eta": 2}, "'sampler' and 'scheduler', or a 'name' with options, got 'eta'"),
        ('{"name": "asha", "eta": 2', 'is JSON such as {"name": "asha", "eta": 2}'),
        ('{"a": ' * 100_000, "is JSON such as"),
        (
            {"name": "multi_fidelity", "shares": 1},
            "multi_fidelity: shares must be a list of fractions, got 1",
        ),
        ({"name": "pbt", "parameters": "lr"}, "pbt: parameters must be a list of names, got 'lr'"),
        ({"name": "pbt", "parameters": 3}, "pbt: parameters must be a list of names, got 3"),
        ({"name": "tpe", "good": "x"}, "tpe: good must be a fraction between 0 and 1, got 'x'"),
        ({"name": "tpe", "prior": None}, "tpe: prior must be positive, got None"),
        ({"name": "nsga2", "swap": []}, r"nsga2: swap must be in \[0, 1\], got \[\]"),
        ({"name": "nsga2", "eta_mutation": "1"}, "nsga2: eta_mutation must be positive, got '1'"),
        ({"name": "forest", "interleave": {}}, r"forest: interleave must be in \[0, 1\), got {}"),
        ({"name": "threshold", "upper": 10**400}, "threshold: upper must be a finite number"),
        ({"name": "threshold", "upper": 1, "metric": []}, "threshold: metric must be the name"),
        (Fancy(anything=object()), "option 'anything' of .*Fancy' must be JSON"),
        (Fancy(anything=float("nan")), "must be JSON"),
    ],
)
def test_what_is_no_strategy_is_refused_in_one_line(given: Any, words: str) -> None:
    with pytest.raises(StrategyError, match=words) as caught:
        make_strategy(given)
    assert "\n" not in str(caught.value)


def test_a_strategy_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    class Journal:
        lines = 0

        def append(self, event: object) -> int:
            self.lines += 1
            return 0

    journal = Journal()
    with pytest.raises(StrategyError, match="must know how long that is"):
        Study(LINE, strategy="random+asha", journal=journal)
    with pytest.raises(StrategyError, match="'y'"):
        Study(
            {"x": Float(0, 1), "y": Float(0, 1)},
            strategy={"sampler": {"name": "grid", "resolution": {"x": 2}}},
            journal=journal,
        )
    assert journal.lines == 0


def test_options_reach_the_object() -> None:
    strategy = make_strategy({"sampler": {"name": "tests.hpo_core.stubborn:Stubborn", "u": 0.25}})
    assert strategy.sampler == Stubborn(u=0.25)
