"""The child process by itself, with Python in the place of an engine."""

import sys

import pytest

from isochrone.adapters.engines.child import Child

DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
signal.pause()
"""


async def run(code: str) -> tuple[Child, str]:
    child = await Child.start([sys.executable, "-c", code])
    line = await child.first_line()
    await child.end(grace_s=0)
    return child, line


async def test_its_last_words_are_kept_and_no_more() -> None:
    child, line = await run("import sys; [print('word', n, file=sys.stderr) for n in range(1000)]")
    assert line == ""
    assert child.words == [f"word {n}" for n in range(936, 1000)]


async def test_a_line_without_end_is_cut_to_pieces() -> None:
    child, _ = await run("import sys; sys.stderr.write('x' * 10_000_000)")
    assert 0 < max(len(words) for words in child.words) <= 8192


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("raise SystemExit(3)", "ended with exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL, as it does when memory runs out"),
        ("import os; os.kill(os.getpid(), 40)", "ended by signal 40"),
    ],
)
async def test_how_it_ended_is_told_in_words(code: str, ending: str) -> None:
    child, _ = await run(code)
    assert child.ending == ending


async def test_a_child_that_heeds_nothing_is_ended_by_force() -> None:
    child = await Child.start([sys.executable, "-c", DEAF])
    assert await child.first_line() == "up"
    assert child.alive
    await child.end(grace_s=0.05)
    assert (child.alive, child.memory_bytes) == (False, 0)
    assert child.ending.startswith("ended by SIGKILL")
