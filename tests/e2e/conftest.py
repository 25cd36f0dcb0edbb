"""Real weights once a session, and a two-node network once a module."""

import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from isochrone.adapters.storage import ModelStore, parse_model_option
from tests.e2e.cluster import MODEL, Cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in Path(item.fspath).parts:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def store() -> Path:
    """A store with the real weights, kept between runs."""
    import asyncio

    root = Path(os.environ.get("ISOCHRONE_TEST_STORE") or Path.home() / ".cache" / "isochrone-test")
    name, source = parse_model_option(MODEL)
    assert source is not None
    asyncio.run(ModelStore(root).pull(name, source, lambda _done, _total: None))
    return root


@pytest.fixture
def empty_cluster(tmp_path: Path, store: Path) -> Iterator[Cluster]:
    """NATS only; the test starts what it needs."""
    cluster = Cluster(tmp_path, store)
    cluster.start_nats()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Cluster]:
    """A gateway and two warm nodes, `a` and `b`."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), store)
    try:
        cluster.start_nats()
        cluster.start_gateway()
        for name in ("a", "b"):
            cluster.start_node(name)
        cluster.wait_ready("a", "b")
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="unused", max_retries=0) as client:
        yield client
