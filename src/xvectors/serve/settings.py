"""Settings of the service. The defaults are for one machine of a few cores, reached from that machine alone."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from xvectors.errors import ConfigError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the service listens on, keeps and allows.

    Attributes
    ----------
    host, port : address to listen on; one that other machines can reach needs `keys`
    gallery : gallery of the tenant `default`, by default the user's own file; those of other tenants stand beside it
    keys : file of the keys, written by `xvectors keys add`; None serves every request, of the tenant `default`
    audit : file of the audit trail; None keeps none
    prior : prior probability of the same speaker, where a request states none; None takes the system's
    enrollment_speech_s : seconds of speech from which a speaker counts as enrolled
    max_body_bytes : greatest size of a request
    max_duration_s : longest recording
    max_diarized_s : longest recording to diarize
    max_stream_s : seconds after which a stream ends without an answer
    body_timeout_s : seconds in which a request must have arrived
    max_requests : requests and streams at the same time; further ones are answered with 503
    rate_per_s : requests a second from one address; None for no limit
    decoders : processes that decode recordings
    decode_timeout_s : seconds, and seconds of processor time, that one recording may take to decode
    decode_memory_bytes : memory that one recording may take to decode
    batch_size : recordings that the network takes at once
    batch_wait_s : longest time to wait for further recordings of a batch
    threads : processor cores for the network; None leaves one to each decoder, and takes the others
    shutdown_s : seconds that requests in progress have to end
    """

    host: str = "127.0.0.1"
    port: int = 8000
    gallery: str | Path | None = None
    keys: Path | None = None
    audit: Path | None = None
    prior: float | None = None
    enrollment_speech_s: float = 10.0
    max_body_bytes: int = 20_000_000
    max_duration_s: float = 300.0
    max_diarized_s: float = 3600.0
    max_stream_s: float = 30.0
    body_timeout_s: float = 30.0
    max_requests: int = 64
    rate_per_s: float | None = 100.0
    decoders: int = 2
    decode_timeout_s: float = 20.0
    decode_memory_bytes: int = 500_000_000
    batch_size: int = 16
    batch_wait_s: float = 0.002
    threads: int | None = None
    shutdown_s: float = 30.0

    def __post_init__(self) -> None:
        if self.prior is not None and not 0 < self.prior < 1:
            raise ConfigError(f"the prior is {self.prior}; give a probability above 0 and below 1")
        for name in ("enrollment_speech_s", "max_body_bytes", "max_duration_s", "body_timeout_s", "max_requests"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.rate_per_s is not None and self.rate_per_s <= 0:
            raise ConfigError(f"rate_per_s is {self.rate_per_s}; it must be above 0, or None for no limit")
        if self.batch_size < 1 or self.batch_wait_s < 0:
            raise ConfigError("batch_size must be at least 1, and batch_wait_s not below 0")
        if not self.is_local and self.keys is None:
            raise ConfigError(
                f"{self.host} can be reached by other machines, so the service needs keys there: make one with "
                "`xvectors keys add FILE`, and give --keys FILE; or listen on 127.0.0.1"
            )

    @property
    def network_threads(self) -> int:
        """Processor cores for the network. Waiting threads of the network would keep the decoders from working."""
        return max(1, (os.cpu_count() or 1) - self.decoders) if self.threads is None else self.threads

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"
