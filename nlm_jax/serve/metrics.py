"""Metrics of a running server in the text format of Prometheus."""

from collections.abc import Callable, Mapping

import prometheus_client as prometheus
from prometheus_client import exposition

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Bounds of the histograms of times."""
SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST


class Metrics:
    """Counters, histograms and gauges of one server, in a registry of its own."""

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]):
        """`gauges`: what each is called -> its explanation and how to read it."""
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        counter = lambda name, text, *labels: prometheus.Counter(f"nlm_{name}", text, labels, registry=registry)  # noqa: E731
        self.requests = counter("requests", "Requests to /predict and /ask")
        self.responses = counter("responses", "Responses by path and HTTP status", "path", "status")
        self.answers = counter("answers", "Questions answered")
        self.errors = counter("errors", "Questions answered with an error of their own")
        self.not_finite = counter("not_finite", "Questions whose recording or logits were NaN or infinite")
        self.refused = counter("refused", "Requests refused for their Host, Origin or Content-Type")
        self.turned_away = counter("turned_away", "Requests refused because the queue was full")
        self.disconnected = counter("disconnected", "Requests whose client went away before the answer")
        self.tokens = counter("generated_tokens", "Tokens of all answers")
        histogram = prometheus.Histogram
        self.latency = histogram(
            "nlm_answer_seconds", "From reading a question to its answer", buckets=SECONDS, registry=registry
        )
        self._observed = {
            "queue_seconds": histogram(
                "nlm_queue_seconds",
                "From queueing a question to its begin",
                buckets=SECONDS,
                registry=registry,
            ),
            "batch_size": histogram(
                "nlm_batch_size",
                "Questions with the model when another one came to it",
                buckets=(1, 2, 4, 8, 16, 32, 64),
                registry=registry,
            ),
        }
        for name, (text, read) in gauges.items():
            prometheus.Gauge(f"nlm_{name}", text, registry=registry).set_function(read)

    def observe(self, name: str, value: float) -> None:
        """Adds a value to a histogram."""
        self._observed[name].observe(value)

    def text(self) -> bytes:
        """All of them, as `GET /metrics` answers."""
        return exposition.generate_latest(self.registry)
