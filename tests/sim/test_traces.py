import gzip
import json
import statistics
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from isochrone.ports import SettingError
from isochrone.sim.scenario.files import arrivals, build_nodes, changed, read_scenario
from isochrone.sim.scenario.settings import Scenario
from isochrone.sim.spec import BYTES_PER_TOKEN, Job
from isochrone.sim.traffic.jobs import mean_demand
from isochrone.sim.traffic.traces import read_azure, read_mooncake, read_servegen

WORLD = """
duration_s = 100
[nodes]
count = 1
hardware = { h100-80gb-x4 = 1 }
[traffic]
rate_per_s = 1
models = ["llama2-70b"]
regions = { "West Europe" = 1, "East US" = 1 }
"""
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
SERVEGEN = "model,client,window_start_s,rate_rps,cv\n"


def played(source: str, path: Path, **changes: object) -> Scenario:
    dotted = {key.replace("__", "."): each for key, each in changes.items()}
    return changed(
        read_scenario(WORLD, "world.toml"), {"traffic.source": source, "traffic.trace": str(path), **dotted}
    )


def jobs_of(scenario: Scenario) -> list[Job]:
    return list(arrivals(scenario, build_nodes(scenario, 1), 1))


def azure_file(folder: Path, count: int) -> Path:
    rows = [f"2023-11-16 18:{n // 60:02d}:{n % 60:02d}.1234567,{100 + n},{10 + n}\n" for n in range(count)]
    path = folder / "azure.csv"
    path.write_text(AZURE + "".join(rows))
    return path


def mooncake_file(folder: Path, rows: list[tuple[int, int, list[int]]]) -> Path:
    path = folder / "mooncake.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for timestamp, tokens, ids in rows:
            row = {"timestamp": timestamp, "input_length": tokens, "output_length": 5, "hash_ids": ids}
            file.write(json.dumps(row) + "\n")
    return path


# -- Azure -------------------------------------------------------------------------------------------


def test_azures_gaps_are_scaled_to_the_rate_and_its_lengths_are_kept(tmp_path: Path) -> None:
    path = azure_file(tmp_path, 120)
    assert read_azure(str(path)).span_s == pytest.approx(120)
    jobs = jobs_of(played("azure", path, duration_s=10, traffic__rate_per_s=4))
    assert len(jobs) == 40
    assert [job.at_s for job in jobs[:3]] == pytest.approx([0, 0.25, 0.5])
    assert [(job.prompt_tokens, job.output_tokens) for job in jobs[:2]] == [(100, 10), (101, 11)]
    assert {job.region for job in jobs} == {"West Europe", "East US"}
    demand = mean_demand(played("azure", path))
    assert (demand.prompt_tokens, demand.output_tokens) == (159.5, 69.5)


def test_a_trace_that_is_too_short_is_told_or_repeated(tmp_path: Path) -> None:
    path = azure_file(tmp_path, 30)
    with pytest.raises(SettingError, match=r"azure\.csv: has 30 requests, but about 100 .* duration_s to 30"):
        jobs_of(played("azure", path))
    jobs = jobs_of(played("azure", path, traffic__repeat=True))
    assert len(jobs) == 100
    assert [job.prompt_tokens for job in jobs[:30]] == [job.prompt_tokens for job in jobs[30:60]]
    gaps_s = [later.at_s - sooner.at_s for sooner, later in pairwise(jobs)]
    assert gaps_s == pytest.approx([1.0] * 99)


def test_a_prefix_is_part_of_a_traces_prompt(tmp_path: Path) -> None:
    scenario = played("azure", azure_file(tmp_path, 120), traffic__prefix__client_tokens=4000)
    jobs = jobs_of(scenario)
    assert [job.prompt_tokens for job in jobs[:2]] == [100, 101]
    assert all(len(job.blocks.hashes) == job.prompt_tokens // 64 for job in jobs)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: there is no column TIMESTAMP; the trace needs TIMESTAMP, ContextTokens, Gen"),
        ("TIMESTAMP,ContextTokens\n", "line 1: there is no column GeneratedTokens"),
        (AZURE, "is empty: no request is in it; give a trace"),
        (AZURE + "2023-11-16 18:15:46,1,1\n", "has 1 requests"),
        (AZURE + "yesterday,1,1\n", "line 2, column TIMESTAMP: 'yesterday' is no date and time"),
        (AZURE + "2023-11-16 18:15:46,1\n", "line 2, column GeneratedTokens: is missing"),
        (
            AZURE + "2023-11-16 18:15:46,1,x\n",
            "line 2, column GeneratedTokens: 'x' is no number of at least 0",
        ),
        (AZURE + "2023-11-16 18:15:46,-1,1\n", "line 2, column ContextTokens: '-1' is no number"),
        (AZURE + "2023-11-16 18:15:46,1.5,1\n", "line 2, column ContextTokens: '1.5' is no whole number"),
        (
            AZURE + "2023-11-16 18:15:46,1,1\n2023-11-16 18:15:45,1,1\n",
            "line 3, column TIMESTAMP: is before that of the line above",
        ),
    ],
)
def test_what_is_wrong_in_azures_is_told_with_line_and_column(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SettingError) as raised:
        read_azure(str(path))
    assert str(raised.value).startswith(f"{path}: {told}")


def test_a_trace_that_is_not_there_is_told(tmp_path: Path) -> None:
    for read in (read_azure, read_mooncake, read_servegen):
        with pytest.raises(SettingError, match="can't be read: No such file"):
            read(str(tmp_path / "none.csv.gz"))
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"x" * 100)[:20])
    with pytest.raises(SettingError, match="can't be read"):
        read_servegen(str(tmp_path / "torn.csv.gz"))


# -- Mooncake ----------------------------------------------------------------------------------------


def test_mooncakes_blocks_become_chains_without_a_last_part(tmp_path: Path) -> None:
    rows = [(0, 1030, [1, 2, 3]), (1000, 1536, [1, 2, 4]), (2000, 1024, [5, 2])]
    first, second, third = read_mooncake(str(mooncake_file(tmp_path, rows))).chains
    assert (len(first), len(second), len(third)) == (2, 3, 2)
    assert second[:2] == first
    assert third[1] != first[1]  # the same block after another one is another text


def test_a_follow_up_comes_from_the_client_of_what_it_follows(tmp_path: Path) -> None:
    rows = [(n * 100, 512 * 4, [n * 10, n * 10 + 1, n * 10 + 2, n * 10 + 3]) for n in range(50)]
    rows += [
        (5000 + n * 100, 512 * 5, [n * 10, n * 10 + 1, n * 10 + 2, n * 10 + 3, 900 + n]) for n in range(50)
    ]
    jobs = jobs_of(played("mooncake", mooncake_file(tmp_path, rows)))
    assert len(jobs) == 100
    assert [(job.region, job.client) for job in jobs[:50]] == [(job.region, job.client) for job in jobs[50:]]
    assert len({job.client for job in jobs}) > 10
    assert jobs[50].blocks.prefix_bytes(set(jobs[0].blocks.hashes)) == 4 * 512 * BYTES_PER_TOKEN


def test_a_repeated_trace_has_new_texts(tmp_path: Path) -> None:
    rows = [(n * 1000, 512, [n]) for n in range(50)]
    jobs = jobs_of(played("mooncake", mooncake_file(tmp_path, rows), traffic__repeat=True))
    assert len({job.blocks.hashes for job in jobs}) == len(jobs) == 100


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "line 1: is no JSON object"),
        ("[1]", "line 1: is no JSON object"),
        ('{"timestamp": 0}', "line 1, key input_length: is missing"),
        (
            '{"timestamp": "x", "input_length": 1, "output_length": 1, "hash_ids": []}',
            "line 1, key timestamp: 'x' is",
        ),
        (
            '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}',
            "line 1, key hash_ids: is no",
        ),
    ],
)
def test_what_is_wrong_in_mooncakes_is_told_with_line_and_key(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(SettingError) as raised:
        read_mooncake(str(path))
    assert str(raised.value).startswith(f"{path}: {told}")


# -- ServeGen ----------------------------------------------------------------------------------------


def servegen_file(folder: Path, rows: list[tuple[str, int, int, float, float]]) -> Path:
    path = folder / "servegen.csv"
    path.write_text(SERVEGEN + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def test_clients_keep_their_part_of_the_rate_in_each_window(tmp_path: Path) -> None:
    rows = [
        ("m", 0, 0, 3.0, 1.0),
        ("m", 1, 0, 1.0, 4.0),
        ("m", 1, 600, 8.0, 1.0),
        ("other", 0, 0, 100.0, 1.0),
    ]
    scenario = played(
        "servegen",
        servegen_file(tmp_path, rows),
        duration_s=1200,
        traffic__trace_model="m",
        traffic__rate_per_s=12,
    )
    jobs = jobs_of(scenario)
    assert [job.at_s for job in jobs] == sorted(job.at_s for job in jobs)
    early = [job for job in jobs if job.at_s < 600]
    late = [job for job in jobs if job.at_s >= 600]
    assert len(early) == pytest.approx(4800, rel=0.1)
    assert len(late) == pytest.approx(9600, rel=0.1)
    clients = Counter(job.client for job in early)
    assert max(clients.values()) / len(early) == pytest.approx(0.75, abs=0.1)
    assert len({(job.client, job.region) for job in jobs}) <= 2
    steady = [job.at_s for job in early if job.client == clients.most_common(1)[0][0]]
    gaps_s = [later - sooner for sooner, later in pairwise(steady)]
    assert statistics.pstdev(gaps_s) / statistics.fmean(gaps_s) == pytest.approx(1.0, abs=0.1)


def test_rates_start_where_told_and_wrap_around_only_if_told(tmp_path: Path) -> None:
    rows = [("m", 0, 0, 1.0, 1.0), ("m", 0, 600, 9.0, 1.0)]
    path = servegen_file(tmp_path, rows)
    longer = {"duration_s": 1200, "traffic__trace_start_s": 300.0, "traffic__rate_per_s": 10}
    with pytest.raises(
        SettingError, match=r"servegen\.csv: lasts 1200 s, but it is to be played up to 1500 s"
    ):
        jobs_of(played("servegen", path, **longer))
    jobs = jobs_of(played("servegen", path, traffic__repeat=True, **longer))
    busy = [job for job in jobs if 300 <= job.at_s < 900]
    assert len(busy) / len(jobs) == pytest.approx(0.9, abs=0.02)
    quick = played("servegen", path, duration_s=120, traffic__day__time_scale=10.0)
    assert len([job for job in jobs_of(quick) if job.at_s >= 60]) == pytest.approx(108, abs=35)


def test_what_is_wrong_in_servegens_is_told(tmp_path: Path) -> None:
    path = servegen_file(tmp_path, [("m", 0, 600, 1.0, 1.0)])
    with pytest.raises(SettingError, match="column model: there is no 'x'; there are: m"):
        read_servegen(str(path), "x")
    with pytest.raises(SettingError, match="has no request from 0 s to 100 s"):
        jobs_of(played("servegen", path))
    with pytest.raises(SettingError, match="line 2, column window_start_s: 5 is no multiple of 600"):
        read_servegen(str(servegen_file(tmp_path, [("m", 0, 5, 1.0, 1.0)])))
    with pytest.raises(SettingError, match="line 2, column rate_rps: '-1' is no number of at least 0"):
        read_servegen(str(servegen_file(tmp_path, [("m", 0, 0, -1, 1.0)])))


def test_a_trace_is_played_lazily(tmp_path: Path) -> None:
    scenario = played("azure", azure_file(tmp_path, 30), traffic__repeat=True, duration_s=1e7)
    assert len(list(islice(arrivals(scenario, build_nodes(scenario, 1), 1), 10))) == 10
