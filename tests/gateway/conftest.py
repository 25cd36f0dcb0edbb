"""Which loop the tests of a live gateway run on: uvloop, as it does itself; most on that of asyncio too."""

import asyncio

import uvloop

_LIVE = ("test_back_pressure.py", "test_front_door.py")


def pytest_asyncio_loop_factories(config, item):
    if item.path.name in ("test_upstream_faults.py", "test_engine_faults.py"):
        return {"uvloop": uvloop.new_event_loop}
    both = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return both if item.path.name in _LIVE else {"asyncio": asyncio.new_event_loop}
