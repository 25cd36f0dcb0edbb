"""`python -m tests.fuzz [SECONDS] [TARGET...]`: each target for a while, by atheris or by hypothesis."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.corpus import SEEDS
from tests.fuzz.targets import TARGETS
from tests.fuzz.test_fuzz import near_misses

FOLDER = Path(".fuzz")
SECONDS = 60


def by_coverage(name: str, seconds: int) -> int:
    """Run atheris on one target in a process of its own, for it ends the process; returns its status."""
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    code = (
        "import atheris, sys\n"
        "with atheris.instrument_imports(include=['isochrone.relay', 'isochrone.wire']):\n"
        "    from tests.fuzz.targets import TARGETS\n"
        f"atheris.Setup(sys.argv, TARGETS[{name!r}])\n"
        "atheris.Fuzz()\n"
    )
    options = [
        f"-max_total_time={seconds}",
        "-max_len=2000",
        f"-artifact_prefix={FOLDER}/{name}-",
        "-verbosity=0",
    ]
    return subprocess.run([sys.executable, "-c", code, *options, str(corpus)], check=False).returncode


def by_examples(name: str, seconds: int) -> int:
    """Run hypothesis on one target, a thousand examples at a time."""
    ends = time.monotonic() + seconds
    quick = settings(
        max_examples=1000,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    run = quick(given(near_misses(name))(TARGETS[name]))
    while time.monotonic() < ends:
        run()
    return 0


def main(arguments: list[str]) -> int:
    seconds = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else SECONDS
    unknown = [name for name in arguments if name not in TARGETS]
    if unknown:
        print(f"no target {unknown[0]}: there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    coverage = importlib.util.find_spec("atheris") is not None
    if not coverage:
        print("atheris is not installed (extra `fuzz`): hypothesis instead", file=sys.stderr)
    failed = 0
    for name in arguments or TARGETS:
        print(f"{name}: {seconds} s", flush=True)
        failed |= (by_coverage if coverage else by_examples)(name, seconds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
