"""Other optimisers behind the two calls of the benchmark loop, one adapter a file.

A peer's package is imported when the peer is made, so an interpreter needs only those it measures.
Every peer runs with the settings it has when its user sets nothing but the seed and the space, and
is given exactly our problems' spaces: floats, integers, unordered categories, log scales.
Conditions are expressed where the peer has them (Optuna, SMAC; Hyperopt for categorical parents);
elsewhere the parameter is always there, and the problem ignores it while inactive.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from benchmarks.problems import AskTell, Problem

__all__ = ["PEERS", "make_peer", "peer_version"]

# Peer -> module here, class in it, variant, distribution whose version is recorded.
PEERS: dict[str, tuple[str, str, str, str]] = {
    "optuna-random": ("_optuna", "OptunaPeer", "random", "optuna"),
    "optuna-tpe": ("_optuna", "OptunaPeer", "tpe", "optuna"),
    "optuna-gp": ("_optuna", "OptunaPeer", "gp", "optuna"),
    "optuna-cmaes": ("_optuna", "OptunaPeer", "cmaes", "optuna"),
    "hyperopt": ("_hyperopt", "HyperoptPeer", "tpe", "hyperopt"),
    "smac": ("_smac", "SmacPeer", "hpo", "smac"),
    "ax": ("_ax", "AxPeer", "fast", "ax-platform"),
    "cmaes": ("_cmaes", "CmaesPeer", "plain", "cmaes"),
    "cmaes-ipop": ("_cmaes", "CmaesPeer", "ipop", "cmaes"),
}

Make = Callable[[Problem, str, int, int], AskTell]


def make_peer(name: str, problem: Problem, seed: int, trials: int) -> AskTell:
    """A fresh optimiser ``name`` for ``problem``; ``ValueError`` names the peers if it is none."""
    if name not in PEERS:
        raise ValueError(f"expected a peer of {', '.join(PEERS)}, got {name!r}")
    module, kind, variant, _ = PEERS[name]
    make: Make = getattr(import_module(f"benchmarks.peers.{module}"), kind)
    return make(problem, variant, seed, trials)


def peer_version(name: str) -> str | None:
    """The installed version of the package behind the peer ``name``; ``None`` when it is absent."""
    try:
        return version(PEERS[name][3])
    except PackageNotFoundError:
        return None
