"""The child process of the embedded engine: one model in llama.cpp, answering HTTP on a Unix socket.

Run as `python -m ownstudio.engines.worker OPTIONS`, with OPTIONS a JSON object of the fields of `WorkerOptions`
and `socket_path`; the key that clients must send comes in the environment. Its rules:

* It says `READY {"context": …, "slots": …}` on standard output, once, when it answers; all else that it or
  native code writes goes to standard error. A model that does not load ends it with status 1, the reason in the log.
* It never outlives its parent. Linux kills it the moment that the parent dies; elsewhere, or if the parent was
  gone too early for that, the end of standard input tells it.
* It is light: it imports nothing but the standard library and xllamacpp, since its start is a user's wait.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from typing import Any, NamedTuple

KEY_VARIABLE = "OWNSTUDIO_WORKER_KEY"
READY = "READY "

_PR_SET_PDEATHSIG = 1
_LOG_WARNINGS = 2  # the lowest verbosity at which llama.cpp says why a model does not load
_SPARE_CONNECTIONS = 4
# llama.cpp's log is written by a thread of its own, which an exit cuts off: it would take the reason with it.
_LAST_WORDS_S = 0.25


class WorkerOptions(NamedTuple):
    """What one worker runs.

    `context` is in tokens per slot and `slots` how many answers are written at once: the KV cache is allocated
    at start, for their product. `queue` is how many more requests may wait inside the worker. `cache_ram_mib`
    bounds the host memory in which prompts pushed out of their slots are kept for reuse; 0 keeps none.

    `batch` is how many prompt tokens are computed at a time: a hang-up is seen, and other answers go on, between two
    batches. On a CPU a small one costs nothing; a GPU wants 512 or more.

    `threads` should leave one core to the rest: llama.cpp's threads meet at spinning barriers many times per token,
    so that a thread without a core of its own stalls all (on two cores, with a neighbour that keeps one busy,
    two threads wrote a quarter of what one wrote).
    """

    model_path: str
    context: int = 4096
    slots: int = 4
    threads: int = 1
    cache_ram_mib: int = 256
    queue: int = 64
    batch: int = 128


def main() -> None:
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the gateway's to answer
    ready_output = _own_standard_output()
    options: dict[str, Any] = json.loads(sys.argv[1])
    socket_path = options.pop("socket_path")
    key = os.environ.pop(KEY_VARIABLE, "")
    server = _serve(WorkerOptions(**options), socket_path, key)
    os.write(ready_output, f"{READY}{json.dumps(_facts(socket_path, key))}\n".encode())
    os.close(ready_output)
    sys.stdin.buffer.read()
    # The destructors of native threads that are still computing would only delay the end.
    del server
    os._exit(0)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_standard_output() -> int:
    """Keep standard output for the READY line; whatever else is printed there becomes log."""
    ready_output = os.dup(1)
    os.dup2(2, 1)
    return ready_output


def _serve(options: WorkerOptions, socket_path: str, key: str) -> object:
    """Load the model and listen. The server lives as long as the object."""
    os.environ["GGML_NO_BACKTRACE"] = "1"  # else an abort starts a debugger
    import xllamacpp  # noqa: PLC0415 - after the variable above, and never in the parent

    params = xllamacpp.CommonParams()
    params.model.path = options.model_path
    params.hostnames = [socket_path]
    params.api_keys = [key] if key else []
    params.n_ctx = options.context * options.slots
    params.n_parallel = options.slots
    params.kv_unified = False  # slots of their own: less of one answer depends on its neighbours
    params.ctx_shift = False  # never forget the start of a prompt silently
    params.n_cache_reuse = 0  # shifted KV is only nearly right
    params.cache_ram_mib = options.cache_ram_mib
    params.n_batch = params.n_ubatch = max(options.batch, options.slots)
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = options.threads
        cpu.poll = 0  # no spinning between batches
    params.n_threads_http = options.slots + options.queue + _SPARE_CONNECTIONS
    params.endpoint_slots = True
    params.fit_params = False  # what was asked for is what runs, or nothing does
    params.warmup = True  # READY means that the weights have been touched
    params.offline = True
    params.ui = False
    params.cors_origins = ""
    params.verbosity = _LOG_WARNINGS
    return xllamacpp.Server(params)


def _facts(socket_path: str, key: str) -> dict[str, int]:
    """What the slots really are: llama.cpp rounds the context and caps it at what the model was trained for."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(socket_path)
        connection.sendall(
            b"GET /slots HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n"
            b"Authorization: Bearer " + key.encode() + b"\r\n\r\n"
        )
        answer = bytearray()
        while data := connection.recv(65536):
            answer += data
    slots = json.loads(answer.partition(b"\r\n\r\n")[2])
    return {"context": min(slot["n_ctx"] for slot in slots), "slots": len(slots)}


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, OSError, ValueError, TypeError, KeyError) as fault:
        time.sleep(_LAST_WORDS_S)
        sys.exit(f"the worker could not start: {fault}")
