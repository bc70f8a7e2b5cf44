"""Every metric, declared once. Labels are closed sets: no key, no request id, no text of a client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The registry of one server. Built by the composition root, handed to whoever observes."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "ownstudio_requests",
            "HTTP requests answered",
            ["route", "status"],
            registry=self._registry,
        )
        self.generations = Counter(
            "ownstudio_generations",
            "Generations by the way they ended",
            ["deployment", "ending"],
            registry=self._registry,
        )
        self.prompt_tokens = Counter(
            "ownstudio_prompt_tokens",
            "Tokens fed to models",
            ["deployment"],
            registry=self._registry,
        )
        self.cached_tokens = Counter(
            "ownstudio_cached_tokens",
            "Prompt tokens that engines took from their KV cache",
            ["deployment"],
            registry=self._registry,
        )
        self.completion_tokens = Counter(
            "ownstudio_completion_tokens",
            "Tokens written by models",
            ["deployment"],
            registry=self._registry,
        )
        self.time_to_first_token = Histogram(
            "ownstudio_time_to_first_token_seconds",
            "From the request to its first token",
            ["deployment"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.generation_time = Histogram(
            "ownstudio_generation_seconds",
            "From the request to its ending",
            ["deployment"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.slots_busy = Gauge(
            "ownstudio_slots_busy", "Slots in use", ["deployment"], registry=self._registry
        )
        self.queue_length = Gauge(
            "ownstudio_queue_length",
            "Requests waiting for a slot",
            ["deployment"],
            registry=self._registry,
        )
        self.engine_ready = Gauge(
            "ownstudio_engine_ready",
            "1 while the engine answers",
            ["deployment"],
            registry=self._registry,
        )

    def page(self) -> bytes:
        """The Prometheus text exposition of everything observed so far."""
        return generate_latest(self._registry)
