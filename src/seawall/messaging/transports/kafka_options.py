"""What can be said about a Kafka, and reading it from a URL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from seawall.errors import Misconfigured

_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kafka:
    """How to reach a Kafka cluster and use it.

    `settings` are librdkafka's own (`sasl.mechanism`, `ssl.ca.location`, `linger.ms`, …) and win
    over what follows from the rest.
    """

    servers: str  # host:port[,host:port]
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    idempotent: bool = True  # the broker drops what a producer's own retries repeat
    create: bool = True  # make topics that are missing; else somebody else does
    partitions: int = 6  # of topics made here: the most members a group can use
    replication: int = -1  # of topics made here; -1 is the cluster's default
    # (place, members): this process takes every partition whose number modulo `members` is
    # `place`, for good. No rebalances, and nobody takes over after a crash but its successor.
    member: tuple[int, int] | None = None
    # Seconds without a heartbeat until a crashed member's partitions move. 0 is the lease, but
    # six seconds at least, which is what brokers admit by default.
    session: float = 0.0
    handover: float = 5.0  # seconds that running handlers get before their partition moves
    timeout: float = 5.0  # seconds one call to the cluster may take
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.servers:
            raise Misconfigured("no Kafka server is named", fix="kafka://HOST:9092")
        if self.partitions < 1:
            raise Misconfigured(f"a topic has one partition at least, not {self.partitions}")
        if self.timeout <= 0 or self.handover < 0 or self.session < 0:
            raise Misconfigured(
                f"timeout={self.timeout}, handover={self.handover}, session={self.session}: "
                "seconds are positive"
            )
        if self.member is not None and not 0 <= self.member[0] < self.member[1]:
            place, members = self.member
            raise Misconfigured(f"member {place} of {members}", fix="member=0/2 and member=1/2")

    @staticmethod
    def parse(url: str) -> "Kafka":
        """`kafka://[user:password@]host:port[,host:port]?idempotent=false&linger.ms=1`; with TLS
        `kafkas://`. A name with a dot is a setting of librdkafka."""
        parts = urlsplit(url)
        credentials, _, servers = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        known: dict[str, object] = {}
        settings: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if "." in name:
                settings[name] = value
            elif name in _READERS:
                known[name] = _read(url, name, value)
            else:
                raise Misconfigured(
                    f"{url!r}: unknown option {name!r}",
                    fix="one of " + ", ".join(_READERS) + ", or a setting of librdkafka",
                )
        return Kafka(
            servers=servers,
            username=unquote(username),
            password=unquote(password),
            tls=parts.scheme == "kafkas",
            settings=settings,
            **known,  # type: ignore[arg-type]  # each was read by its reader
        )

    @property
    def common(self) -> dict[str, str | int | float]:
        """Settings of every client, in librdkafka's terms."""
        security = ("SASL_" if self.username else "") + ("SSL" if self.tls else "PLAINTEXT")
        common: dict[str, str | int | float] = {
            "bootstrap.servers": self.servers,
            "security.protocol": security,
            "socket.timeout.ms": max(1_000, int(self.timeout * 1000)),
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 1_000,
            "log_level": 3,  # errors; what a reader does not see as facts anyway
        }
        if self.username:
            common |= {
                "sasl.mechanism": "PLAIN",
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        return common


def _member(value: str) -> tuple[int, int]:
    place, _, members = value.partition("/")
    return int(place), int(members)


_READERS = {
    "idempotent": lambda value: _YES_NO[value],
    "create": lambda value: _YES_NO[value],
    "partitions": int,
    "replication": int,
    "member": _member,
    "session": float,
    "handover": float,
    "timeout": float,
}


def _read(url: str, name: str, value: str) -> object:
    try:
        return _READERS[name](value)  # type: ignore[operator]
    except (ValueError, KeyError) as error:
        raise Misconfigured(f"{url!r}: {name} cannot be {value!r}") from error
