"""Metrics of the service for Prometheus. They hold counts and durations, no names and no tenants."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LLRS = (-20.0, -10.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 10.0, 20.0)
SPEECH_S = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "xvectors_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "xvectors_request_seconds", "Seconds from request to answer.", ["route"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("xvectors_requests_in_flight", "Requests in progress.", registry=registry)
        self.refused = Counter("xvectors_refused", "Requests refused by a limit.", ["limit"], registry=registry)
        self.waiting = Gauge("xvectors_batch_queue", "Calls that wait for a batch.", registry=registry)
        self.batches = Histogram(
            "xvectors_batch_recordings", "Recordings of a batch.", buckets=SIZES, registry=registry
        )
        self.decisions = Counter(
            "xvectors_decisions", "Decisions by kind.", ["endpoint", "decision"], registry=registry
        )
        self.llrs = Histogram(
            "xvectors_llr", "LLRs of decisions, whose drift shows.", ["endpoint"], buckets=LLRS, registry=registry
        )
        self.speech = Histogram(
            "xvectors_speech_seconds", "Seconds of speech of recordings.", buckets=SPEECH_S, registry=registry
        )
        self.unusable = Counter("xvectors_recordings_unusable", "Recordings that were refused.", registry=registry)
        self.reloads = Counter("xvectors_reloads", "Reloads of the system.", ["result"], registry=registry)
        self.system = Gauge("xvectors_system", "The system served.", ["fingerprint"], registry=registry)

    def decided(self, endpoint: str, decision: str, llr: float | None) -> None:
        """Count a decision."""
        self.decisions.labels(endpoint, decision).inc()
        if llr is not None:
            self.llrs.labels(endpoint).observe(llr)

    def serves(self, fingerprint: str) -> None:
        """Note which system is served."""
        self.system.clear()
        self.system.labels(fingerprint).set(1)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)
