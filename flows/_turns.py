"""Whose turn it is to be heard, in a study whose results are taken in the order of its trials.

By default whatever arrives first is folded first, so two runs of a study on several workers differ. In order,
the trial with the lowest number among those in flight is heard, and only once every free slot has asked the
study for work. What the others say is kept until then. So the sequence of everything that the study is asked
and told is a function of what the trials say, however fast they say it; a worker that is lost and repeats its
trial changes nothing, and neither does a driver that is killed and resumed. The price is that a slot whose
trial is done waits for its turn before it gets the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flows.runners._port import Message, RunIdWanted


class Turns:
    """The slots of a driver: each asks for work, waits for some, runs a trial, or has left."""

    def __init__(self, slots: int, *, in_order: bool) -> None:
        self.in_order = in_order
        self._asking = set(range(slots))
        self._waiting: set[int] = set()
        self._running: dict[int, int] = {}
        self._news = asyncio.Event()

    def runs(self, slot: int, trial: int) -> None:
        """The slot has begun a segment of the trial."""
        self._asking.discard(slot)
        self._running[slot] = trial
        self._announce()

    def asks(self, slot: int) -> None:
        """Its segment is over and folded; it will ask for the next one."""
        del self._running[slot]
        self._asking.add(slot)

    def waits(self, slot: int) -> None:
        """It has asked, in vain."""
        self._asking.discard(slot)
        self._waiting.add(slot)
        self._announce()

    def wakes(self) -> None:
        """Something has changed: who waits will ask again."""
        self._asking |= self._waiting
        self._waiting.clear()

    def leaves(self, slot: int) -> None:
        """It asks no more."""
        self._asking.discard(slot)
        self._announce()

    async def come(self, slot: int) -> None:
        """Return once it is this slot's turn: at once, unless everything goes in order."""
        while self.in_order and (self._asking or self._running[slot] != min(self._running.values())):
            await self._news.wait()

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Speech:
    """What one segment says, handed to ``hear`` when it is its slot's turn."""

    def __init__(self, turns: Turns, slot: int, hear: Callable[[Message], None]) -> None:
        self._turns = turns
        self._slot = slot
        self._hear = hear
        self._kept: asyncio.Queue[Message | None] = asyncio.Queue()
        self._handing = asyncio.ensure_future(self._hand_on()) if turns.in_order else None

    async def say(self, message: Message) -> None:
        """Take a message; never waits for the turn, so that no trial is held up.

        Raises what went wrong when this one, or one before it, was heard.
        """
        # An objective that wants its run's id waits for it, and no decision depends on that.
        if self._handing is None or isinstance(message, RunIdWanted):
            self._hear(message)
            return
        if self._handing.done():
            self._handing.result()  # raises what hearing an earlier one has raised
        self._kept.put_nowait(message)

    async def end(self) -> None:
        """Everything has been said; returns when it has been heard and it is still the slot's turn."""
        if self._handing is not None:
            self._kept.put_nowait(None)
            await self._handing
            await self._turns.come(self._slot)

    async def _hand_on(self) -> None:
        while (message := await self._kept.get()) is not None:
            await self._turns.come(self._slot)
            self._hear(message)
