"""The real engine, for evaluation: the GGUF file in llama.cpp, asked with token ids."""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp

from training import vocabulary

GREEDY = {"temperature": 0, "top_k": 1, "top_p": 1.0, "min_p": 0.0}


@dataclass(frozen=True)
class Completion:
    text: str
    ended: bool  # by itself, not at the limit
    tokens: int
    seconds: float


class Engine:
    """One model, one request at a time, always the likeliest token."""

    def __init__(self, path: Path, threads: int) -> None:
        os.environ["GGML_NO_BACKTRACE"] = "1"
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_parallel = 4096, 1
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.cache_ram_mib, settings.port, settings.verbosity = 0, 0, 0
        settings.ui = settings.fit_params = settings.ctx_shift = False
        self._server = xllamacpp.Server(settings)
        self._address = f"{self._server.listening_address}/completion"

    def complete(self, prompt: str, limit: int = 256) -> Completion:
        answer = self.ask(prompt, n_predict=limit)
        timings = answer["timings"]
        return Completion(
            answer["content"],
            answer["stop_type"] == "eos",
            answer["tokens_predicted"],
            timings["predicted_ms"] / 1000,
        )

    def ask(self, prompt: str, **settings: Any) -> dict[str, Any]:
        token_ids = vocabulary.tokenizer().encode(prompt, add_special_tokens=False).ids
        body = json.dumps({"prompt": token_ids, **GREEDY, **settings}).encode()
        request = urllib.request.Request(self._address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as response:
            answer: dict[str, Any] = json.load(response)
        return answer
