"""The same bytes to us and to a real nginx before us: what reaches the handler, and what is refused."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from raw_cases import CASES, NEXT, NGINX

from isochrone.relay import Exchange

BINARY = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
NGINX_COMPARED = "1.22"
"""The verdicts in the table are those of this version: Debian 12 has it."""

CONF = """
daemon on; pid {folder}/pid; error_log {folder}/error.log crit; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    client_header_timeout 300ms; client_body_timeout 300ms; lingering_timeout 100ms;
    server {{
        listen unix:{folder}/socket;
        location / {{
            proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
    }}
}}
"""


async def told(exchange: Exchange) -> None:
    """Answer with what arrived."""
    seen = f"{exchange.method} {exchange.path}=".encode() + exchange.body
    exchange.reply(200, seen, "text/plain")


def verdict(raw: bytes) -> str:
    """What came of all that was sent, from all that was answered."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        if status is None:
            found.append("without a head")
            break
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        body, raw = rest[:size], rest[size:]
        if status[1] != b"100":
            found.append(body.decode() if status[1] == b"200" else status[1].decode())
    return "; ".join(found) or "closed"


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes) -> str:
    writer.write(raw + NEXT)
    data = bytearray()
    try:
        async with asyncio.timeout(5):
            while piece := await reader.read(65536):
                data += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    return verdict(bytes(data))


async def nginx(*options: str) -> str:
    """Run nginx, which returns when it listens, and give what it says."""
    command = [str(BINARY), *options]
    return (
        await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    ).stderr


def test_there_are_enough_cases():
    assert len(CASES) >= 60
    assert set(NGINX) <= set(CASES)
    assert all(verdict != CASES[name].ours for name, (verdict, _) in NGINX.items())


@pytest.mark.parametrize("name", CASES)
async def test_ours(serve, name):
    running = await serve(told, body_s_max=0.3, head_s_max=0.3)
    connection = await asyncio.open_connection("127.0.0.1", running.port)
    assert await answers(*connection, CASES[name].raw) == CASES[name].ours
    assert running.crashes == []


async def test_nginx_before_us(serve, tmp_path: Path):
    """All cases at once; each differs exactly where the table says so."""
    if BINARY is None:
        pytest.skip("nginx is not installed: no second opinion (apt-get install nginx-light)")
    version = await nginx("-v")
    running = await serve(told)
    conf = tmp_path / "nginx.conf"
    conf.write_text(CONF.format(folder=tmp_path, port=running.port))
    await nginx("-p", str(tmp_path), "-c", str(conf))

    async def ask(raw: bytes) -> str:
        return await answers(*await asyncio.open_unix_connection(str(tmp_path / "socket")), raw)

    try:
        got = dict(zip(CASES, await asyncio.gather(*(ask(c.raw) for c in CASES.values())), strict=True))
    finally:
        await nginx("-p", str(tmp_path), "-c", str(conf), "-s", "stop")
    both = {name: g for name, g in got.items() if "=" in g and "=" in CASES[name].ours}
    for name, found in both.items():  # what both serve they must read alike, whatever the version
        assert found.split("; ")[0] == CASES[name].ours.split("; ")[0], name
    if f"nginx/{NGINX_COMPARED}." not in version:
        pytest.skip(f"{version.strip()}: the table's differences are those of nginx {NGINX_COMPARED}")
    differs = {name: found for name, found in got.items() if found != CASES[name].ours}
    assert differs == {name: found for name, (found, _why) in NGINX.items()}
