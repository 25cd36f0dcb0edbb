"""`isochrone explain`: what a stranger reads of a decision, whole when it is piped."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from typer.testing import CliRunner

from isochrone.cli.app import app
from isochrone.cli.tables import explain_table
from isochrone.model import Candidate, Decision, Estimate, Origin, SloRoom
from isochrone.ports import IsochroneError
from isochrone.wire.explain import Record, encode_record, record_fields
from isochrone.wire.subjects import DECISIONS_PATH

NAME = "a-node-with-a-name-that-is-much-longer-than-anybody-would-think-of-in-eastern-antarctica"
ESTIMATE = Estimate(185.0, 0.0, 0.0, 147.0, -22.0, 349.0, 129.0, 26, 11, 24, 421.0, congestion_ms=43.0)


def a_record(slo: SloRoom | None = None, origin: Origin | None = None, *, stream: bool = True) -> Record:
    candidates = tuple(Candidate(name, ESTIMATE) for name in (NAME, "other"))
    return Record("gw", 1, stream, Decision("req-1", "m", "soonest", candidates, (), 1.0, slo, origin))


@pytest.fixture
def told() -> Iterator:
    """Prints a record as a gateway's last decision; gives the lines."""
    running: list[tuple[HTTPServer, Thread]] = []

    def explain(record: Record | dict) -> list[str]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == DECISIONS_PATH + "last" else 404)
                self.end_headers()
                encoded = encode_record(record) if isinstance(record, Record) else json.dumps(record).encode()
                self.wfile.write(encoded)

            def log_message(self, *_args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        url = f"http://127.0.0.1:{server.server_port}"
        result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["explain", "--gateway", url])
        assert result.exception is None
        as_json = CliRunner().invoke(app, ["explain", "--json", "--gateway", url])
        assert json.loads(as_json.stdout)["id"] == "req-1"
        return [" ".join(line.split()) for line in result.stdout.splitlines()]

    yield explain
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def test_piped_no_name_is_cut_and_no_line_is_broken(told):
    lines = told(a_record())
    assert f"→ {NAME} 185 0 0 147 -22 310 349 43 129 421" in lines
    assert (
        "node network wait load prefill learned = first token ms later tokens for others uncertainty score"
        in (lines)
    )


def test_it_says_where_the_choice_was_found(told):
    assert f"{NAME} was found because it holds the beginning of the prompt" in told(
        a_record(origin=Origin.PREFIX)
    )
    assert not any("was found" in line for line in told(a_record()))


@pytest.mark.parametrize("origin", Origin)
def test_every_origin_has_its_words(told, origin):
    assert any(line.startswith(f"{NAME} was found ") for line in told(a_record(origin=origin)))


def test_it_says_how_long_the_request_was_to_wait(told):
    record = a_record()
    lines = told(replace(record, decision=replace(record.decision, patience_ms=830.4)))
    assert any(line.startswith("its prompt was to begin there within 830 ms;") for line in lines)
    assert not any("was to begin" in line for line in told(record))


LATER = ("origin", "slo", "patience_ms")
"""What the first versions did not tell of a decision; `congestion_ms` of no candidate."""


def test_the_record_of_an_older_gateway_reads_well(told):
    record = record_fields(a_record())
    for name in LATER:
        del record[name]
    for candidate in record["candidates"]:
        del candidate["congestion_ms"]
    lines = told(record)
    assert f"→ {NAME} 185 0 0 147 -22 310 349 - 129 421" in lines
    assert f"{NAME} is 0 ms ahead of the next best by the estimate" in lines
    assert not any("was found" in line for line in lines)
    assert "no attempt was made, or none has ended yet" in lines


def test_the_record_of_a_newer_gateway_reads_well(told):
    record = record_fields(a_record()) | {"origin": "moon\x1b[2J", "weather": "fair"}
    assert f"{NAME} was found by 'moon\\x1b[2J'" in told(record)


def test_what_is_no_record_is_told_in_a_sentence():
    with pytest.raises(IsochroneError, match=r"none that this version can show \(KeyError\('stream'\)\)"):
        explain_table({"id": "req-1"})
    with pytest.raises(IsochroneError, match="see it with --json"):
        explain_table({**record_fields(a_record()), "candidates": 3})


def test_an_slo_that_is_kept_is_told_with_its_room(told):
    assert (
        "the client wants the first token within 500 ms and each later token within 37.5 ms: "
        f"{NAME} is expected to keep that, with room of 61 ms for the first token and 2.5 ms for each later "
        "token after a margin for error"
    ) in told(a_record(SloRoom(500.0, 37.5, 61.0, 2.5, heeded=True)))


def test_an_slo_that_is_missed_is_told_with_what_misses_and_why_it_was_chosen(told):
    missing = SloRoom(300.0, 50.0, -139.0, 35.0, heeded=True)
    assert (
        "the client wants the first token within 300 ms and each later token within 50 ms: "
        f"{NAME} is expected to miss that, the first token by 139 ms, a margin for error counted; so are all "
        "that were compared, and it is the soonest"
    ) in told(a_record(missing))
    careless = SloRoom(None, 5.0, None, -1.25)
    assert (
        f"the client wants each later token within 5 ms: {NAME} is expected to miss that, "
        "each later token by 1.25 ms"
    ) in told(a_record(careless))


def test_an_slo_that_is_missed_by_a_hair_is_told_as_missed(told):
    lines = told(a_record(SloRoom(300.0, None, -0.0001, None)))
    assert any(
        line.endswith("miss that, the first token by 0 ms, a margin for error counted") for line in lines
    )


def test_a_nearer_node_that_was_left_to_others_is_told_to_be_sooner(told):
    near, far = (replace(ESTIMATE, rtt_ms=rtt_ms) for rtt_ms in (5.0, 85.0))
    record = a_record()
    candidates = (Candidate("far", far), Candidate("near", near))
    record = replace(record, decision=replace(record.decision, candidates=candidates))
    assert any("; near is nearer by 80 ms of network and sooner by 80 ms" in line for line in told(record))


def test_what_a_client_wrote_does_not_steer_the_terminal(told):
    record = a_record()
    record = replace(record, decision=replace(record.decision, model="\x1b]0;gone\x07\x1b[2J[bold]m"))
    (line,) = [line for line in told(record) if "decided by soonest" in line]
    assert r"'\x1b]0;gone\x07\x1b[2J[bold]m', streamed" in line


def test_an_answer_that_comes_whole_has_its_limit_told_as_such(told):
    lines = told(a_record(SloRoom(900.0, None, 112.0, None, heeded=True), stream=False))
    assert any(line.startswith("the client wants the whole answer within 900 ms") for line in lines)
