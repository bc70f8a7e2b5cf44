"""Requests per second on one core against LiteLLM's proxy, the gateway most used from Python: `make bench-litellm`.

Not part of the default run: LiteLLM with its hundred packages lives in a virtual environment of its own, which the
first run makes under build/. It runs with one worker, a master key, no database and no callbacks. Both gateways
stand in front of the same double, LiteLLM on its OpenAI form, Ownstudio on llama.cpp's, and both are measured as in
`throughput`: CPU time per request, in turns.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks.client import Target, closed_loop
from benchmarks.engine_load import chat_body
from benchmarks.figures import FULL, Budget, Figure
from benchmarks.machine import machine
from benchmarks.processes import ROOT, Cores, Process, free_port, gateway, on_load_core
from benchmarks.report import Report, print_table
from benchmarks.throughput import (
    ANSWER_TOKENS,
    CLIENTS,
    SLOTS,
    TEXT,
    WARM_UP_S,
    Side,
    behind,
    in_turns,
)

VERSION = "1.109.1"
VENV = ROOT / "build" / "litellm-venv"
BUDGET = Budget(20.0, at_least=True)
INSTALL_S_MAX = 1200
START_S_MAX = 180.0
KEY = "sk-benchmark-of-two-gateways"


def install() -> Path:
    """LiteLLM's command, installed where it is not there yet. Raises subprocess.CalledProcessError."""
    command = VENV / "bin" / "litellm"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"litellm[proxy]=={VERSION}"], check=True, timeout=INSTALL_S_MAX)
    return command


@contextmanager
def proxy(command: Path, engine_port: int) -> Iterator[Process]:
    """LiteLLM's proxy with one worker, in front of an OpenAI endpoint on `engine_port`."""
    model = {
        "model": "openai/double",
        "api_base": f"http://127.0.0.1:{engine_port}/v1",
        "api_key": "none",
    }
    settings = {"model_list": [{"model_name": "qwen-plus", "litellm_params": model}]}
    cores = Cores.choose()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        home = Path(directory)
        config = home / "config.yaml"
        config.write_text(json.dumps(settings), "utf-8")  # JSON is YAML
        arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        process = Process(
            [str(command), *arguments, "--num_workers", "1"],
            port,
            home / "log",
            cwd=home,
            core=cores.server if cores else None,
            LITELLM_MASTER_KEY=KEY,
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            PYTHONPATH="",
        )
        try:
            process.wait_listening(start_s_max=START_S_MAX)
            yield process
        finally:
            process.stop()


async def compare(command: Path) -> Figure:
    engine_port = free_port()
    body = chat_body(TEXT, tokens=ANSWER_TOKENS, stream=False)
    with (
        gateway(
            gap_s=0.0, slots=SLOTS, context=1024, pinned=True, double_tcp_port=engine_port
        ) as studio,
        proxy(command, engine_port) as litellm,
        on_load_core(),
    ):
        sides = (
            Side(studio, studio.target),
            Side(litellm, Target(path="/v1/chat/completions", port=litellm.port, key=KEY)),
        )
        for side in sides:
            await closed_loop(side.target, body, clients=CLIENTS, seconds=WARM_UP_S)
        ours, theirs = await in_turns(sides, body, FULL, lambda: None, stream=False)
    return Figure(
        row="litellm",
        what="requests/s of the whole gateway on one core",
        against=f"LiteLLM proxy {VERSION}, one worker",
        value=ours.per_core / theirs.per_core,
        unit=" times",
        budget=BUDGET,
        behind=behind(ours, theirs),
    )


def main() -> int:
    console = Console()
    here = machine()
    begun = time.monotonic()
    with console.status("LiteLLM is installed, where it is not yet, then measured"):
        figure = uvloop.run(compare(install()))
    print_table(Report(here, time.monotonic() - begun, False, [figure], {}), console)
    return 0 if figure.met else 1


if __name__ == "__main__":
    sys.exit(main())
