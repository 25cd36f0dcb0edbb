"""`isochrone capacity`: a table that a stranger can read, JSON as it came, one line for each error."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from isochrone.cli.app import app
from isochrone.ports import IsochroneError
from isochrone.wire.subjects import CAPACITY_PATH

TOLD = {
    "gateway": "gate",
    "region": "near",
    "words": ["the speed of 1 of 3 nodes is not known: a guess stands for it"],
    "plan": {"status": "optimal", "age_s": 1.2, "utilisation_most": 0.9, "unmet_cost_s": 3600.0},
    "models": [{"model": "m", "prompt_tokens": 272, "output_tokens": 64, "lengths_learned": False}],
    "places": [
        {
            "region": region,
            "nodes": nodes,
            "slots": 2 * nodes,
            "utilisation": used,
            "capacity_per_s": {"m": 0.7 * nodes},
            "ready_capacity_per_s": {"m": 0.7 * nodes},
            "asked_per_s": asked,
            "served_per_s": {"m": 0.63 * nodes},
        }
        for region, nodes, used, asked in (("near", 1, 0.9, {"m": 2.0}), ("", 2, 0.5, {}))
    ],
    "groups": [
        {
            "region": region,
            "nodes": 1,
            "names": [name],
            "models": [{"model": "m", "ready": 1.0}],
            "utilisation": 0.9,
            "saving_s_per_node": saving,
        }
        for region, name, saving in (("", "slow", 4.25), ("near", "quick", 1234.5), ("near", "idle", 0.0))
    ],
    "demand": [
        {
            "region": "near",
            "model": "m",
            "requests_per_s": 2.0,
            "unmet_per_s": 0.25,
            "marginal_s": 3600.0,
            "served_from": [{"region": "near", "share": 0.75}, {"region": "", "share": 0.25}],
        }
    ],
    "left_out": {"node silent": 3},
}

Serving = Callable[[int, bytes], str]


@pytest.fixture
def serving() -> Iterator[Serving]:
    """A gateway that answers everybody with one status and body; gives its address."""
    running: list[tuple[HTTPServer, Thread]] = []

    def begin(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = status if self.path == CAPACITY_PATH else 404
                self.send_response(found)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def lines(url: str) -> list[str]:
    result = CliRunner(env={"COLUMNS": "140"}).invoke(app, ["capacity", "--gateway", url])
    assert result.exception is None
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_the_table_tells_places_then_savings_most_first_then_what_is_not_served(serving):
    told = lines(serving(200, json.dumps(TOLD).encode()))
    assert told[0] == "gate in near plan optimal, 1.2 s old"
    assert "near 1 2 90% m 0.7 0.7 2 0.63" in told
    assert "(no place told) 2 4 50% m 1.4 1.4 - 1.26" in told
    most, less = told.index("1234 quick near 1 90% m"), told.index("4.25 slow (no place told) 1 90% m")
    assert most < less
    assert not any("idle" in line for line in told)
    assert "near m 2 0.25 3600 near 75%, (no place told) 25%" in told[less:]
    assert "left out: 3 x node silent" in told
    assert TOLD["words"][0] in told


def test_without_demand_it_says_so_and_names_no_saving(serving):
    words = ["no demand: no gateway has lately sent requests, so nothing is scarce"]
    idle = {**TOLD, "plan": {**TOLD["plan"], "status": "nothing is asked"}, "words": words, "demand": []}
    told = lines(serving(200, json.dumps(idle).encode()))
    assert words[0] in told
    assert not any("one more node" in line for line in told)
    assert "near 1 2 90% m 0.7 0.7 2 0.63" in told


def test_room_everywhere_and_a_plan_that_is_missing_are_told(serving):
    roomy = {**TOLD, "groups": [{**group, "saving_s_per_node": 0.0} for group in TOLD["groups"]]}
    assert "nothing: there is room everywhere" in lines(serving(200, json.dumps(roomy).encode()))
    plan = {**TOLD["plan"], "status": None, "age_s": None, "unmet_cost_s": None}
    places = [{**place, "utilisation": None} for place in TOLD["places"]]
    demand = [{**TOLD["demand"][0], "unmet_per_s": None, "marginal_s": None, "served_from": []}]
    none = {**TOLD, "plan": plan, "places": places, "demand": demand}
    told = lines(serving(200, json.dumps(none).encode()))
    assert told[0] == "gate in near no plan yet"
    assert "near 1 2 - m 0.7 0.7 2 0.63" in told
    assert "near m 2 - - -" in told


def test_json_is_what_the_gateway_said(serving):
    url = serving(200, json.dumps(TOLD).encode())
    result = CliRunner().invoke(app, ["capacity", "--json", "--gateway", url + "/"])
    assert json.loads(result.stdout) == TOLD


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "the gateway wants a key: put yours in ISOCHRONE_API_KEY"),
        (200, b"<html>", "did not answer with JSON: is that an Isochrone gateway?"),
        (404, b'{"error":{"message":"There is nothing there."}}', "There is nothing there."),
    ],
)
def test_errors_are_one_line(serving, status, body, words):
    error = CliRunner().invoke(app, ["capacity", "--gateway", serving(status, body)]).exception
    assert isinstance(error, IsochroneError)
    assert str(error).endswith(words)
    assert "\n" not in str(error)


def test_no_gateway_and_no_network_are_one_line(tmp_path: Path):
    error = CliRunner().invoke(app, ["capacity", "--gateway", "http://127.0.0.1:1"]).exception
    assert isinstance(error, IsochroneError)
    assert "can't be reached" in str(error)
    error = CliRunner().invoke(app, ["capacity", "--state-dir", str(tmp_path)]).exception
    assert isinstance(error, IsochroneError)
    assert "\n" not in str(error)
