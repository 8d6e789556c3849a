"""A network of two machines on one: a namespace for the second, and a cable that can be pulled."""

from __future__ import annotations

import itertools
import os
import subprocess

# The kernel removes an interface some time after its namespace was deleted: each network has its own names.
_COUNT = itertools.count()


class Network:
    """``inside`` begins the command of what is to run on the other machine, whose address is ``there``."""

    def __init__(self) -> None:
        number = next(_COUNT)
        # The pid keeps two suites on one machine apart; 198.18.0.0/15 is set aside for such tests.
        self._name = f"hpo{os.getpid()}-{number}"
        self.inside = ("ip", "netns", "exec", self._name)
        third = (os.getpid() + number) % 250
        self.here, self.there = f"198.18.{third}.1", f"198.18.{third}.2"
        _ip("netns", "add", self._name)
        try:
            self._lay_cable()
        except BaseException:
            self.remove()
            raise

    def _lay_cable(self) -> None:
        _ip("link", "add", f"{self._name}a", "type", "veth", "peer", f"{self._name}b", "netns", self._name)
        _ip("address", "add", f"{self.here}/30", "dev", f"{self._name}a")
        _ip("-netns", self._name, "address", "add", f"{self.there}/30", "dev", f"{self._name}b")
        for name in ("lo", f"{self._name}b"):
            _ip("-netns", self._name, "link", "set", name, "up")
        self.heal()

    def cut(self) -> None:
        """Pull the cable: nothing arrives any more, and nobody is told."""
        _ip("link", "set", f"{self._name}a", "down")

    def heal(self) -> None:
        """Plug it in."""
        _ip("link", "set", f"{self._name}a", "up")

    def remove(self) -> None:
        """The interfaces go with the namespace."""
        _ip("netns", "delete", self._name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
