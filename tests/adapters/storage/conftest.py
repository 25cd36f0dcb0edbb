import os
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from storage_site import WEIGHTS, Handler, Site

from isochrone.adapters.storage import Limits, ModelStore


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": found}))
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    if found.hold is not None:
        found.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store", Limits(retry_s=0.001, failures_max=3))


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(WEIGHTS)
    return path


@pytest.fixture(scope="session")
def shared_store() -> ModelStore:
    """A store that outlives the tests, so that real weights are downloaded once."""
    folder = os.environ.get("ISOCHRONE_TEST_STORE", "~/.cache/isochrone-test")
    return ModelStore(Path(folder).expanduser())
