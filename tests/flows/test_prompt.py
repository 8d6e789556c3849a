"""While MLflow loads beside the loop nothing stops it, and afterwards the interpreter is as it was."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

from flows._prompt import prompt


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


def test_nothing_is_collected_while_something_loads_and_again_once_it_has() -> None:
    async def go() -> None:
        loading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with prompt(loading):
            assert not gc.isenabled()
            assert sys.getswitchinterval() < 0.001
            loading.set_result(None)
            await asyncio.sleep(0)  # a turn of the loop
            assert gc.isenabled()

    before = sys.getswitchinterval()
    asyncio.run(go())
    assert sys.getswitchinterval() == before


def test_what_was_there_before_is_exempt_for_the_time_and_not_for_ever() -> None:
    knot = Knot()
    gone = weakref.ref(knot)
    with prompt(None):
        del knot
        gc.collect()
        assert gone() is not None
    gc.collect()
    assert gone() is None


def test_a_block_left_before_all_is_loaded_leaves_nothing_behind() -> None:
    async def go() -> None:
        loading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with prompt(loading):
            pass
        assert gc.isenabled()
        loading.set_result(None)
        await asyncio.sleep(0)  # a turn of the loop

    asyncio.run(go())
    assert gc.get_freeze_count() == 0


def test_a_collector_that_the_user_has_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with prompt(None):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
