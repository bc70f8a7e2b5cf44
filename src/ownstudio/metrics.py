"""Every metric, declared once. Labels are closed sets: no key, no request id, no text of a client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_WRITE_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 8)


class Metrics:
    """The registry of one server. Built by the composition root, handed to whoever observes."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._rows: list[tuple[str, str, tuple[str, ...], str]] = []
        self.requests = self._counter("requests", "HTTP requests answered", "route", "status")
        self.generations = self._counter(
            "generations", "Generations by the way they ended", "deployment", "ending"
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens fed to models", "deployment")
        self.cached_tokens = self._counter(
            "cached_tokens", "Prompt tokens that engines took from their KV cache", "deployment"
        )
        self.completion_tokens = self._counter(
            "completion_tokens", "Tokens written by models", "deployment"
        )
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "From the request to its first token", "deployment"
        )
        self.generation_time = self._histogram(
            "generation_seconds", "From the request to its ending", "deployment"
        )
        self.slots_busy = self._gauge("slots_busy", "Slots in use", "deployment")
        self.queue_length = self._gauge("queue_length", "Requests waiting for a slot", "deployment")
        self.engine_ready = self._gauge("engine_ready", "1 while the engine answers", "deployment")
        self.refusals = self._counter(
            "refusals",
            "Requests refused for a limit, a quota, a budget or a balance, or as these could not be read",
            "reason",
        )
        self.limit_waiting = self._gauge("limit_waiting", "Requests waiting for a limit")
        self.limit_wait_time = self._histogram(
            "limit_wait_seconds", "How long those waited that had to, and passed then"
        )
        self.charged = self._counter(
            "charged", "Money charged, in the server's currency; the ledger has it exactly", "model"
        )
        self.context_cache_tokens = self._counter(
            "context_cache_tokens",
            "Prompt tokens billed as `hit` of the context cache, or as `created` in it",
            "model",
            "kind",
        )
        self.ledger_time = self._histogram(
            "ledger_seconds",
            "How long the ledger took to `hold` money or to `settle` it",
            "operation",
            buckets=_WRITE_SECONDS,
        )
        self.ledger_unwritten = self._gauge(
            "ledger_unwritten", "Settlements that the store has not taken yet; they are tried again"
        )

    def page(self) -> bytes:
        """The Prometheus text exposition of everything observed so far."""
        return generate_latest(self._registry)

    def table(self) -> list[tuple[str, str, tuple[str, ...], str]]:
        """Of each metric its name as it is scraped, its type, its labels and what it tells."""
        return list(self._rows)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        self._rows.append((f"ownstudio_{name}_total", "counter", labels, told))
        return Counter(f"ownstudio_{name}", told, labels, registry=self._registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        self._rows.append((f"ownstudio_{name}", "gauge", labels, told))
        return Gauge(f"ownstudio_{name}", told, labels, registry=self._registry)

    def _histogram(
        self, name: str, told: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        self._rows.append((f"ownstudio_{name}", "histogram", labels, told))
        return Histogram(
            f"ownstudio_{name}", told, labels, buckets=buckets, registry=self._registry
        )


def metrics_page_markdown() -> str:
    """The page of all metrics, docs/metrics.md."""
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {told} |"
        for name, kind, labels, told in Metrics().table()
    ]
    return _PAGE.format(rows="\n".join(rows))


_PAGE = """# Metrics

What `GET /metrics` answers in the text format of Prometheus. This page is generated from `src/ownstudio/metrics.py`; do
not edit it.

The route asks for no key, so let only those reach it who may. No label holds a key, a request id or a client's words.

| name | type | labels | what it tells |
|---|---|---|---|
{rows}

Some questions, and how to ask them in PromQL:

| question | query |
|---|---|
| tokens a second | `rate(ownstudio_completion_tokens_total[1m])` |
| time to the first token, 99 % | `histogram_quantile(0.99, rate(ownstudio_time_to_first_token_seconds_bucket[5m]))` |
| answers that failed | `rate(ownstudio_generations_total{{ending=~"engine_died\\|deadline\\|failed"}}[5m])` |
| who is refused, and why | `rate(ownstudio_refusals_total[5m])` |
| tokens of the prompt that were billed as cached | `rate(ownstudio_context_cache_tokens_total{{kind="hit"}}[1h])` |
| money an hour, by model | `increase(ownstudio_charged_total[1h])` |
| an engine that is away | `ownstudio_engine_ready == 0` |
| bills that are not on the ledger yet | `ownstudio_ledger_unwritten > 0` |
"""
