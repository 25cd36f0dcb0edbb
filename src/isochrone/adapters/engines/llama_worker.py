"""Runs as a child process: one llama.cpp server for one model, until its parent goes.

Prints `{"url": "http://127.0.0.1:PORT"}` as a line of JSON once it answers. What llama.cpp has to say goes
to stderr. It never outlives its parent: the end of its stdin is the parent's death, and on Linux the kernel
sees to it even while llama.cpp, which loads without letting other threads run, is deaf to that.
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import threading
from typing import TextIO

import xllamacpp

_PR_SET_PDEATHSIG = 1
_LOG_ERRORS = 1  # llama.cpp's verbosity: errors and nothing else
_HTTP_THREADS = 2  # to begin with; llama.cpp adds more while streams hold them


def main() -> None:
    """Load, serve, and end with the process."""
    die_with_parent()
    answers = claim_stdout()
    try:
        server = xllamacpp.Server(parameters(parse_order()))
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        # C's exit lets llama.cpp's own thread write out what it has to say first, which os._exit does not;
        # sys.exit would be held up by the thread that watches stdin.
        ctypes.CDLL(None).exit(1)
    answers.write(json.dumps({"url": server.listening_address}) + "\n")
    answers.flush()
    threading.Event().wait()


def parse_order(argv: list[str] | None = None) -> argparse.Namespace:
    """What the parent asks for."""
    parser = argparse.ArgumentParser(prog="llama_worker", description="Serve one model with llama.cpp.")
    parser.add_argument("--weights", required=True, help="a GGUF file")
    parser.add_argument("--model", required=True, help="the name clients use")
    parser.add_argument("--slots", type=int, required=True, help="requests worked on at once")
    parser.add_argument("--context-tokens", type=int, required=True, help="context of each slot")
    parser.add_argument("--threads", type=int, required=True, help="threads that compute")
    parser.add_argument("--cache-ram-mib", type=int, required=True, help="memory for prompts of idle slots")
    return parser.parse_args(argv)


def parameters(order: argparse.Namespace) -> xllamacpp.CommonParams:
    """The order in llama.cpp's terms."""
    params = xllamacpp.CommonParams()
    params.model.path = order.weights
    params.model_alias = {order.model}
    params.n_parallel = order.slots
    params.n_ctx = order.context_tokens * order.slots
    params.cpuparams.n_threads = order.threads
    params.cpuparams_batch.n_threads = order.threads
    params.cache_ram_mib = order.cache_ram_mib
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.n_threads_http = _HTTP_THREADS
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.warmup = True
    params.verbosity = _LOG_ERRORS
    return params


def die_with_parent() -> None:
    """End when the parent ends, however it ends; and leave a terminal's Ctrl-C to the parent.

    To Linux the parent is the *thread* that started us: it must live as long as the engine is wanted.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_stdin, name="watch-parent", daemon=True).start()


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def claim_stdout() -> TextIO:
    """The true stdout; whatever else writes there, native code too, writes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
