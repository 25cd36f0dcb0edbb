import asyncio
import os
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from engine_server import FakeEngine, Handler

from isochrone.adapters.storage import ModelStore, parse_model_option


@pytest.fixture(scope="session")
def weights() -> Path:
    """Real weights, downloaded once for all sessions."""
    folder = os.environ.get("ISOCHRONE_TEST_STORE", "~/.cache/isochrone-test")
    name, source = parse_model_option("smollm2-135m")
    assert source is not None
    store = ModelStore(Path(folder).expanduser())
    return asyncio.run(store.pull(name, source, lambda *_: None)).path


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    fake = FakeEngine()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("EngineHandler", (Handler,), {"fake": fake}))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield fake
    fake.release.set()
    server.shutdown()
    server.server_close()
    thread.join()
