"""Workers of one gateway: whose decision an id is, one scrape of all, what they ask each other."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from isochrone.gateway.crew import Crew, SharedTable, Siblings
from isochrone.gateway.crew.exposition import exposition_of, merged

WORKERS = 3


def a_crew(worker: int, folder: Path | None = None, workers: int = WORKERS) -> Crew:
    return Crew(worker, workers, SharedTable(workers=workers), folder)


@pytest.mark.parametrize(
    ("decision_id", "worker"),
    [
        ("req-w0-00ff", 0),
        ("req-w2-00ff", 2),
        ("req-w1-00ff", None),  # its own
        ("req-w3-00ff", None),
        ("req-w999999-00ff", None),
        ("req-w²-00ff", None),
        ("req-w-00ff", None),
        ("req-w0", None),
        ("req-00ff", None),
        ("last", None),
        ("", None),
    ],
)
def test_an_id_tells_the_worker_that_made_it(decision_id, worker):
    assert a_crew(1).worker_of(decision_id) == worker


def test_a_worker_alone_has_plain_ids():
    assert Crew.alone().id_prefix == "req-"
    assert a_crew(2).id_prefix == "req-w2-"


def a_registry(count: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("answers_total", "Answers.\nAll", ["kind"], registry=registry).labels('a "b"\n').inc(count)
    Histogram("wait_seconds", "Waits", registry=registry, buckets=(1.0,)).observe(count)
    return registry


def test_one_scrape_holds_every_worker_and_each_family_once():
    text = merged(exposition_of(a_registry(10 + worker), worker) for worker in range(WORKERS)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert text.count("# TYPE answers_total counter") == 1
    counts = {
        sample.labels["worker"]: (sample.labels["kind"], sample.value)
        for sample in families["answers"].samples
        if sample.name == "answers_total"
    }
    assert counts == {str(worker): ('a "b"\n', 10.0 + worker) for worker in range(WORKERS)}
    sums = [sample.value for sample in families["wait_seconds"].samples if sample.name.endswith("_sum")]
    assert sums == [10.0, 11.0, 12.0]


def test_a_worker_alone_is_not_labelled():
    assert b"worker" not in exposition_of(a_registry(1), None)


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
async def siblings(tmp_path: Path):
    made = [
        Siblings(a_crew(worker, tmp_path), lambda line, worker=worker: f"{worker}:{line}".encode())
        for worker in range(WORKERS)
    ]
    for sibling in made:
        await sibling.start()
    yield made
    for sibling in made:
        await sibling.stop()
    assert left_in(tmp_path) == []


async def test_workers_ask_each_other(siblings):
    assert await siblings[0].ask(2, "metrics") == b"2:metrics"
    assert await siblings[1].ask_all("decision x y") == [b"0:decision x y", b"2:decision x y"]


async def test_a_worker_that_is_away_is_left_out(siblings):
    await siblings[2].stop()
    assert await siblings[0].ask(2, "metrics") is None
    assert await siblings[0].ask_all("metrics") == [b"1:metrics"]


async def test_an_answer_that_is_cut_off_counts_as_none(siblings, tmp_path):
    async def cut(_reader, writer) -> None:
        writer.write((100).to_bytes(4, "big") + b"half")
        writer.close()

    await siblings[2].stop()
    async with await asyncio.start_unix_server(cut, tmp_path / "worker-2"):
        assert await siblings[0].ask(2, "metrics") is None
    (tmp_path / "worker-2").unlink(missing_ok=True)


async def test_alone_nobody_is_asked():
    alone = Siblings(Crew.alone(), lambda _line: b"")
    await alone.start()
    assert alone.alone
    assert await alone.ask_all("metrics") == []
    await alone.stop()
