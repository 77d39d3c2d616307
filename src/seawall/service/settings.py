"""What the environment says to a service process, read once when it starts.

Every variable is optional and has a twin `NAME_FILE` that names a file holding the value, for
secrets. Without any of them a service runs alone: registry and messages in its own memory and a
SQLite file beside it.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seawall.errors import Misconfigured
from seawall.service.admission import VARIABLE, AdmissionConfig, parse
from seawall.topology import Address

# As long as Docker waits between SIGTERM and SIGKILL; Kubernetes waits 30 s.
DEFAULT_DRAIN = 10.0  # seconds

# How long a leaving instance still answers as if nothing were: the registry tells callers within
# 0.1 s, and a lost notice is made good by a full read. On Kubernetes set it to 5: endpoints and
# proxies follow within seconds there.
DEFAULT_PROPAGATION = 0.5  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Where a service finds its surroundings, and who it is among them."""

    registry_url: str = "memory://seawall"
    messages_url: str = "memory://seawall"
    sessions_url: str | None = None  # None: beside the messages
    database_url: str | None = None  # None: what the code says, else ./<service>.db
    instance_id: str | None = None  # None: see `instance_of`
    incarnation: str | None = None  # None: made at start
    listen_fd: int | None = None  # an inherited listening socket
    probe_fd: int | None = None  # another, on which only this process answers
    host: str = "127.0.0.1"
    port: int | None = None
    log_level: str = "INFO"
    version_tag: str = ""  # makes it a prerelease, which only those get who ask for it
    zone: str = ""  # where this process runs; callers there prefer it
    priority: int = 0  # the lowest is asked first
    tls: str | None = None  # the folder with our certificate; None: plain text
    operator_token: str | None = None  # None: no operator can ask this service anything
    admission: AdmissionConfig | None = None  # None: as many at once as `max_in_flight` says
    commit: str = ""  # what was built, for `seawall_build_info`
    drain: float = DEFAULT_DRAIN  # seconds in which requests and messages under way may end
    propagation: float = DEFAULT_PROPAGATION  # seconds

    @staticmethod
    def from_environment(environ: Mapping[str, str] | None = None) -> "Settings":
        """Read them; raises `Misconfigured`, naming the variable that is wrong."""
        read = _Reader(os.environ if environ is None else environ)
        default = Settings()
        return Settings(
            registry_url=read.text("SEAWALL_REGISTRY__URL") or default.registry_url,
            messages_url=read.text("SEAWALL_MESSAGES__URL") or default.messages_url,
            sessions_url=read.text("SEAWALL_SESSIONS__URL"),
            database_url=read.text("SEAWALL_DATABASE__URL"),
            instance_id=read.text("SEAWALL_INSTANCE_ID"),
            incarnation=read.text("SEAWALL_INCARNATION"),
            listen_fd=read.integer("SEAWALL_LISTEN_FD"),
            probe_fd=read.integer("SEAWALL_PROBE_FD"),
            host=read.text("HOST") or default.host,
            port=read.integer("PORT"),
            log_level=(read.text("LOG_LEVEL") or default.log_level).upper(),
            version_tag=read.text("SEAWALL_VERSION_TAG") or default.version_tag,
            zone=read.text("SEAWALL_ZONE") or default.zone,
            priority=read.integer("SEAWALL_PRIORITY") or default.priority,
            tls=read.text("SEAWALL_TLS"),
            operator_token=read.text("SEAWALL_OPERATOR_TOKEN"),
            admission=None if not (said := read.text(VARIABLE)) else parse(said),
            commit=read.text("SEAWALL_COMMIT") or default.commit,
            drain=read.seconds("SEAWALL_DRAIN_SECONDS", default.drain),
            propagation=read.seconds("SEAWALL_PROPAGATION_SECONDS", default.propagation),
        )

    def instance_of(self, name: str) -> str:
        """Which instance of the service `name` this process is. Without a supervisor that says
        it: by machine and number, since in containers every process has the same number."""
        machine = socket.gethostname().partition(".")[0]
        return self.instance_id or f"{name}-{machine}-{os.getpid()}"

    @property
    def address(self) -> Address | None:
        """Where the environment says that we listen, if it does."""
        return None if not self.port else Address(self.host, self.port)


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str | None:
        if path := self._environ.get(f"{name}_FILE"):
            try:
                return Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                raise Misconfigured(f"{name}_FILE={path!r} cannot be read: {exc}") from exc
        return self._environ.get(name) or None

    def integer(self, name: str) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit():
            raise Misconfigured(f"{name} is a number, not {text!r}")
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            raise Misconfigured(f"{name} is a number of seconds, not {text!r}") from None
        if not 0 <= value < 86_400:
            raise Misconfigured(f"{name} is between 0 and 86400 seconds, not {text!r}")
        return value
