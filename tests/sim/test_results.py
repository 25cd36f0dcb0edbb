"""Runs that are stored come back as they were, byte for byte the same when made again."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from isochrone.ports import SettingError
from isochrone.sim.results import (
    SCHEMA,
    RunMeta,
    Slo,
    blank_columns,
    has_run,
    numbers,
    read_run,
    run_path,
    run_table,
    summarise,
    write_run,
    write_summary_json,
)

META = RunMeta("two-regions", {"traffic.rho": 0.8}, "soonest", 3, "d1gest", "0.2.0", {"pulses": 6.0})


def columns():
    told = blank_columns(4)
    told["at_s"] = np.array([0.0, 1.0, 2.0, 3.0])
    told["counted"] = np.array([False, True, True, True])
    told["kind"] = np.array(["answered", "answered", "refused", "answered"], dtype=object)
    told["node"] = np.array(["a", "a", "", "b"], dtype=object)
    told["region"] = np.array(["x", "x", "y", "x"], dtype=object)
    told["attempts"] = np.array([1, 1, 0, 3], dtype=np.int8)
    told["ttft_ms"] = np.array([9e9, 100.0, math.nan, 300.0])
    told["total_ms"] = np.array([9e9, 200.0, math.nan, 700.0])
    told["tokens_out"] = np.array([5, 11, 0, 5], dtype=np.int32)
    told["prompt_tokens"] = np.array([7, 60, 10, 40], dtype=np.int32)
    told["cached_tokens"] = np.array([7, 20, 0, 5], dtype=np.int32)
    told["load_ms"] = np.array([0.0, 0.0, math.nan, 12.0])
    told["queue_ms"] = np.array([0.0, 10.0, math.nan, 30.0])
    told["est_ttft_ms"] = np.array([1.0, 80.0, math.nan, 1.0])
    return told


def test_a_run_comes_back_as_it_was(tmp_path):
    path = write_run(tmp_path, META, columns())
    meta, table = read_run(path)
    assert meta == META
    assert table.schema.names == SCHEMA.names
    assert table.column("node").to_pylist() == ["a", "a", "", "b"]
    np.testing.assert_array_equal(numbers(table, "ttft_ms"), columns()["ttft_ms"].astype(np.float32))


def test_a_run_from_before_there_were_objectives_can_still_be_read(tmp_path):
    path = write_run(tmp_path, META, columns())
    old = pq.read_table(path).drop_columns(["slo", "est_slo_met"])
    pq.write_table(old, path)
    _, table = read_run(path)
    assert table.column("slo").to_pylist() == table.column("est_slo_met").to_pylist() == [False] * 4
    assert summarise(table, META).slo_requests == 0


def test_those_who_asked_for_the_slo_are_told_apart(tmp_path):
    """Of the three that count, the first and the refused one asked; the first was within the SLO."""
    told = columns() | {"slo": np.array([True, True, True, False])}
    summary = summarise(run_table(told), META, Slo(ttft_ms=150.0))
    assert (summary.slo_requests, summary.slo_kept_share) == (2, 0.5)
    assert summary.others_ttft_ms.mean == summary.others_ttft_ms.p95 == 300.0
    assert math.isnan(summarise(run_table(columns()), META).slo_kept_share)


def test_the_same_run_is_the_same_bytes_however_long_it_took(tmp_path):
    first = write_run(tmp_path / "a", replace(META, counters={"pulses": 6.0, "wall_s": 1.5}), columns())
    second = write_run(tmp_path / "b", replace(META, counters={"wall_s": 9.0, "pulses": 6.0}), columns())
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first.name]


def test_a_sweep_skips_what_it_has_and_only_that(tmp_path):
    assert not has_run(tmp_path, META)
    path = write_run(tmp_path, META, columns())
    assert has_run(tmp_path, META)
    for other in (
        replace(META, digest="other"),
        replace(META, seed=4),
        replace(META, policy="soonest?d=4"),
        replace(META, cell={"traffic.rho": 0.9}),
    ):
        assert run_path(tmp_path, other) != path
        assert not has_run(tmp_path, other)
    path.write_bytes(path.read_bytes()[:-20])
    assert not has_run(tmp_path, META)


def test_a_name_made_of_anything_stays_in_its_folder(tmp_path):
    path = run_path(tmp_path, replace(META, policy="../../etc/" + "x" * 500, scenario="a/b\0"))
    assert path.parent == tmp_path
    assert len(path.name) < 255
    assert "\0" not in path.name


def test_columns_that_are_missing_or_short_are_told():
    told = columns()
    del told["node"]
    with pytest.raises(ValueError, match="missing or unknown: node"):
        run_table(told)
    told = columns() | {"client": np.zeros(3, dtype=np.int32)}
    with pytest.raises(ValueError, match="differ in length"):
        run_table(told)


def test_a_file_that_is_no_run_is_told_by_name(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(SettingError, match=r"x\.parquet is not a run"):
        read_run(path)


def test_a_summary_counts_what_came_after_the_warm_up():
    meta = replace(META, counters={"pulses": 6.0, "probes": 2.0, "nodes": 4.0})
    summary = summarise(run_table(columns()), meta, Slo(ttft_ms=250.0, tpot_ms=50.0))
    assert summary.requests == 3
    assert summary.kinds == {"answered": 2, "refused": 1}
    assert summary.error_share == pytest.approx(1 / 3)
    assert summary.window_s == 2.0
    assert summary.goodput_per_s == 0.5
    assert summary.slo_share == pytest.approx(1 / 3)
    assert summary.ttft_ms.mean == 200.0
    assert (summary.ttft_ms.p50, summary.ttft_ms.p99) == (100.0, 300.0)
    assert summary.total_ms.mean == 450.0
    assert summary.tpot_ms == pytest.approx((10.0 + 100.0) / 2)
    assert summary.queue_ms == 20.0
    assert summary.hit_share == 0.25
    assert summary.cold_share == 0.5
    assert summary.prediction_error == pytest.approx(0.2)
    assert summary.busiest_over_mean == pytest.approx(1 / (2 / 4))
    assert summary.messages_per_request == 2.0
    assert summary.retry_amplification == 2.0


def test_a_slow_stream_is_not_good_and_one_token_has_no_pace():
    table = run_table(columns())
    assert summarise(table, META, Slo(tpot_ms=50.0)).goodput_per_s == 0.5
    assert summarise(table, META).goodput_per_s == 1.0
    single = columns() | {"tokens_out": np.ones(4, dtype=np.int32)}
    assert summarise(run_table(single), META, Slo(tpot_ms=1.0)).goodput_per_s == 1.0


def test_a_run_of_nothing_sums_up_to_nothing(tmp_path):
    table = run_table(blank_columns(0))
    summary = summarise(table, META)
    assert summary.requests == 0
    assert math.isnan(summary.ttft_ms.mean)
    path = write_summary_json(tmp_path, [summary])
    told = json.loads(path.read_text())
    assert told[0]["ttft_ms"]["mean"] is None
    assert told[0]["slo"]["ttft_ms"] == "inf"
    assert told[0]["meta"]["policy"] == "soonest"
