"""The report: whole, safe to open, and true to the runs."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from isochrone.ports import SettingError
from isochrone.sim.report import ReportWords, write_report
from isochrone.sim.results import RunMeta, Slo, blank_columns, cells, write_run

HOSTILE = '<script>alert("x")</script>&$x_{1}$ \u4e2d\u202e'
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects what matters of a page, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.links, self.tags = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "action", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def columns(seed, factor, *, rows=300, refused=0):
    luck = np.random.default_rng(seed)
    ttft_ms = luck.lognormal(5.0, 0.6, rows) + 5.0
    told = blank_columns(rows)
    told["at_s"] = np.cumsum(luck.exponential(0.1, rows))
    told["region"] = np.array(["far" if row % 3 else "near" for row in range(rows)], dtype=object)
    told["model"] = np.full(rows, "m", dtype=object)
    told["node"] = np.array([f"n{row % 4}" for row in range(rows)], dtype=object)
    told["attempts"] = np.ones(rows, dtype=np.int8)
    told["prompt_tokens"] = luck.integers(10, 900, rows).astype(np.int32)
    told["tokens_out"] = np.full(rows, 20, dtype=np.int32)
    told["ttft_ms"] = ttft_ms * factor + (told["region"] == "far") * (factor != 1.0) * 20.0
    told["total_ms"] = told["ttft_ms"] + 190.0
    told["rtt_ms"] = luck.uniform(1, 50, rows)
    told["load_ms"] = np.zeros(rows)
    told["est_ttft_ms"] = told["ttft_ms"] * 1.1
    if refused:
        for name in ("ttft_ms", "total_ms"):
            told[name][-refused:] = np.nan
        told["kind"][-refused:] = "refused"
    return told


def meta(policy, seed, **others):
    base = RunMeta("two-regions", {"traffic.rho": 0.8}, policy, seed, "d1gest", "0.2.0", {"pulses": 600.0})
    return replace(base, **others)


def fill(folder, policies, seeds=range(3)):
    for seed in seeds:
        for policy, factor in policies.items():
            write_run(folder, meta(policy, seed), columns(seed, factor))


def test_a_report_is_one_whole_file_that_loads_nothing(tmp_path):
    fill(tmp_path, {"soonest": 1.0, "random": 2.0, "round-robin": 1.2})
    path = write_report(
        tmp_path, ReportWords("Two regions", "Which is sooner?", "isochrone sim run two-regions")
    )
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?://|url\(|@import", text)
    words = " ".join(page.texts)
    for expected in ("Which is sooner?", "d1gest", "0.2.0", "isochrone sim run two-regions", "Caveats"):
        assert expected in words
    assert "Only 3 seeds" in words
    assert (tmp_path / "summary.json").exists()


def test_policies_stand_in_order_with_a_mark_where_the_interval_excludes_one(tmp_path):
    fill(tmp_path, {"soonest": 1.0, "random": 2.0, "better": 0.5})
    text = write_report(tmp_path, ReportWords("t")).read_text()
    rows = re.findall(r'<tr class="(\w+)"><td>([\w-]+)</td>(.*?)</tr>', text)
    assert [(kind, name) for kind, name, _ in rows] == [
        ("other", "better"),
        ("ours", "soonest"),
        ("other", "random"),
    ]
    assert "▼ better" in rows[0][2]
    assert "▲ worse" in rows[2][2]


@pytest.mark.parametrize("references", [["reference-b0"], ["reference-b1"], ["reference-b0", "reference-b1"]])
def test_references_alone_are_reported_and_drawn(tmp_path, references):
    fill(tmp_path, dict.fromkeys(references, 1.0))
    page = Page(write_report(tmp_path, ReportWords("t")).read_text())
    assert page.links
    assert set(references) <= set(page.texts)


def test_a_policy_that_is_no_different_is_not_called_better_or_worse(tmp_path):
    for seed in range(6):
        write_run(tmp_path, meta("soonest", seed), columns(seed, 1.0))
        write_run(tmp_path, meta("twin", seed), columns(seed, 1.1 if seed % 2 else 0.9))
    text = write_report(tmp_path, ReportWords("t")).read_text()
    row = re.search(r"<td>twin</td>(.*?)</tr>", text).group(1)
    assert "not decided" in row


def test_hostile_names_are_text_and_nothing_else(tmp_path):
    for seed in range(2):
        write_run(tmp_path, meta("soonest", seed, scenario=HOSTILE, digest=HOSTILE), columns(seed, 1.0))
        told = columns(seed, 1.5)
        told["region"] = np.full(len(told["region"]), HOSTILE, dtype=object)
        write_run(tmp_path, meta(HOSTILE, seed, scenario=HOSTILE, digest=HOSTILE), told)
    text = write_report(tmp_path, ReportWords(HOSTILE, HOSTILE, HOSTILE, caveats=(HOSTILE,))).read_text()
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "alert" not in text.replace("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;", "")
    assert any(HOSTILE in data for data in page.texts)


def test_the_gap_is_measured_between_the_bound_and_the_omniscient(tmp_path):
    for policy, factor in (("soonest", 1.0), ("reference-b1", 1.0), ("reference-b0", 1.0), ("slow", 1.0)):
        told = columns(1, factor)
        base = told["ttft_ms"].copy()
        told["ttft_ms"] = (
            base + {"reference-b0": 0.0, "reference-b1": 10.0, "soonest": 15.0, "slow": 40.0}[policy]
        )
        write_run(tmp_path, meta(policy, 1), told)
    (cell,) = cells(tmp_path, Slo())
    assert cell.gap("soonest") == pytest.approx(1.5, rel=1e-4)
    assert cell.gap("slow") == pytest.approx(4.0, rel=1e-4)
    assert cell.gap("reference-b0") == pytest.approx(0.0, abs=1e-4)
    assert cell.rival == "slow"
    assert ">gap<" in write_report(tmp_path, ReportWords("t")).read_text()


def test_bounds_can_be_told_by_counters(tmp_path):
    told = {"reference_b2_goodput_per_s": 12.5, "reference_b3_total_ms": 321.0, "reference_b0_ttft_ms": 55.0}
    write_run(tmp_path, meta("soonest", 1, counters=told), columns(1, 1.0))
    text = write_report(tmp_path, ReportWords("t")).read_text()
    for expected in ("55 ms", "12.5/s", "321 ms"):
        assert expected in text


def test_a_sweep_has_its_picture_and_its_cells_in_order(tmp_path):
    for rho in (0.5, 0.9, 0.95):
        for seed in range(2):
            for policy, factor in (("soonest", 1.0), ("random", 1.0 + rho)):
                write_run(tmp_path, meta(policy, seed, cell={"traffic.rho": rho}), columns(seed, factor))
    text = write_report(tmp_path, ReportWords("t")).read_text()
    assert re.findall(r"<h3>(.*?)</h3>", text) == [f"traffic.rho = {rho}" for rho in (0.5, 0.9, 0.95)]
    assert "Mean TTFT over the sweep." in text


def test_the_course_of_things_is_drawn_when_not_all_is_answered(tmp_path):
    write_run(tmp_path, meta("soonest", 1), columns(1, 1.0, refused=30))
    write_run(tmp_path, meta("random", 1), columns(1, 1.5))
    text = write_report(tmp_path, ReportWords("t", slo=Slo(200.0, 50.0))).read_text()
    assert "What happened when" in text
    assert "10.0%" in text


def test_what_lost_where_is_told(tmp_path):
    fill(tmp_path, {"soonest": 1.0, "random": 1.001}, seeds=(1,))
    text = write_report(tmp_path, ReportWords("t")).read_text()
    assert re.search(r"<td>random</td><td>soonest</td><td>region: far</td><td>200</td>", text)


def test_a_report_is_the_same_when_made_again(tmp_path):
    fill(tmp_path, {"soonest": 1.0, "random": 2.0}, seeds=(1, 2))
    first = write_report(tmp_path, ReportWords("t")).read_bytes()
    assert write_report(tmp_path, ReportWords("t")).read_bytes() == first


def test_runs_that_met_other_requests_are_not_compared(tmp_path):
    write_run(tmp_path, meta("soonest", 1), columns(1, 1.0))
    write_run(tmp_path, meta("random", 1), columns(2, 1.0))
    with pytest.raises(SettingError, match="met other requests"):
        write_report(tmp_path, ReportWords("t"))


def test_an_empty_folder_and_an_unknown_reference_are_told(tmp_path):
    with pytest.raises(SettingError, match="holds no runs"):
        write_report(tmp_path, ReportWords("t"))
    write_run(tmp_path, meta("random", 1), columns(1, 1.0))
    with pytest.raises(SettingError, match="no run of the reference policy 'soonest'"):
        write_report(tmp_path, ReportWords("t", reference="soonest"))


def test_a_policy_that_answered_nothing_stands_last(tmp_path):
    write_run(tmp_path, meta("soonest", 1), columns(1, 1.0))
    write_run(tmp_path, meta("dead", 1), columns(1, 1.0, refused=300))
    text = write_report(tmp_path, ReportWords("t")).read_text()
    assert re.findall(r'<tr class="\w+"><td>([\w-]+)</td>', text) == ["soonest", "dead"]
