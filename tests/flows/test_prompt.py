"""While MLflow loads beside the loop nothing stops it, and afterwards the interpreter is as it was."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest

from flows import _prompt
from flows._prompt import exempt, prompt


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


def is_frozen() -> bool:
    """Whether what is loaded is exempt; Python 3.12 counts a few hundred objects that never die as that."""
    return gc.get_freeze_count() > 5_000


def test_the_loop_gets_its_turn_soon_and_only_the_first_study_of_a_process_exempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_prompt, "_first", True)
    before = sys.getswitchinterval()
    with prompt(None):
        assert sys.getswitchinterval() < before
        assert is_frozen()
    assert sys.getswitchinterval() == before
    with prompt(None):
        assert sys.getswitchinterval() < before
        assert not is_frozen()


def test_nothing_is_collected_while_something_loads_and_again_once_it_has() -> None:
    async def go() -> None:
        loading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with exempt(loading):
            assert not gc.isenabled()
            loading.set_result(None)
            await asyncio.sleep(0)  # a turn of the loop
            assert gc.isenabled()

    asyncio.run(go())


def test_what_was_there_before_is_exempt_until_the_end() -> None:
    knot = Knot()
    gone = weakref.ref(knot)
    with exempt(None):
        del knot
        gc.collect()
        assert gone() is not None
    assert gone() is None


def test_a_block_left_before_all_is_loaded_leaves_nothing_behind() -> None:
    async def go() -> None:
        loading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with exempt(loading):
            pass
        assert gc.isenabled()
        loading.set_result(None)
        await asyncio.sleep(0)  # a turn of the loop

    asyncio.run(go())
    assert not is_frozen()


def test_a_collector_that_the_user_has_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with exempt(None):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
