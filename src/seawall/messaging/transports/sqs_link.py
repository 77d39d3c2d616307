"""One process's way to AWS: a client a service, made off the loop, and what their errors mean.

cannot connect, throttled, a queue that is not there      Unavailable    nothing happened
lost or silent after the request, an internal error       OutcomeUnknown
no credentials, no region, not allowed, a bad request     Misconfigured
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from seawall.clock import Clock
from seawall.errors import Misconfigured, OutcomeUnknown, SeawallError, Unavailable

TIMEOUT = 5.0  # seconds an answer may take, beyond what a long poll waits on purpose
CONNECT_TIMEOUT = 2.0  # seconds
LONGEST_POLL = 20  # seconds, SQS's limit
CONNECTIONS = 50  # a service; calls wait for one

FANOUTS = ("sns", "eventbridge", "none")

_MISSING: Final = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
}
_AGAIN: Final = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "TooManyRequestsException",
    "OverLimit",
    "ServiceUnavailable",
    "AWS.SimpleQueueService.QueueDeletedRecently",
}


@cache
def _session() -> AioSession:
    """One a process: reading the descriptions of AWS's services takes a second."""
    return AioSession()


class Missing(Unavailable):
    """A queue or topic is not there: never made, or deleted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sqs:
    """How to use SQS. Without credentials here, they are found where AWS's own tools look."""

    region: str = ""  # "" as the environment says
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    endpoint: str = ""  # of something that speaks for AWS, at http://127.0.0.1:PORT
    fanout: str = "sns"  # how a topic reaches its groups' queues: sns, eventbridge, or none
    bus: str = "default"  # the event bus, where `fanout` is eventbridge
    retention: int = 14 * 86_400  # seconds a queue made here keeps a message; SQS's longest
    timeout: float = TIMEOUT  # seconds

    def __post_init__(self) -> None:
        if self.fanout not in FANOUTS:
            raise Misconfigured(f"fanout {self.fanout!r}", fix="one of " + ", ".join(FANOUTS))
        if not 60 <= self.retention <= 14 * 86_400:
            raise Misconfigured(f"SQS keeps messages for 60 to 1209600 s, not {self.retention}")
        if self.timeout <= 0:
            raise Misconfigured(f"a timeout of {self.timeout} s")

    @staticmethod
    def parse(url: str) -> "Sqs":
        """`sqs://[KEY:SECRET@]REGION?endpoint=URL&fanout=none`, `eventbridge://REGION?bus=NAME`."""
        parts = urlsplit(url)
        credentials, _, region = parts.netloc.rpartition("@")
        access_key, _, secret_key = credentials.partition(":")
        known: dict[str, Any] = {
            "region": region,
            "access_key": unquote(access_key),
            "secret_key": unquote(secret_key),
        }
        if parts.scheme == "eventbridge":
            known["fanout"] = "eventbridge"
        readers: Mapping[str, Any] = {
            "endpoint": str,
            "fanout": str,
            "bus": str,
            "retention": int,
            "timeout": float,
        }
        for name, value in parse_qsl(parts.query):
            if name not in readers:
                raise Misconfigured(
                    f"{url!r}: unknown option {name!r}", fix="one of " + ", ".join(readers)
                )
            try:
                known[name] = readers[name](value)
            except ValueError as error:
                raise Misconfigured(f"{url!r}: {name} cannot be {value!r}") from error
        return Sqs(**known)


class Link:
    """Calls of AWS's services. Nothing is tried twice here."""

    def __init__(self, options: Sqs, clock: Clock) -> None:
        self.options = options
        self._clock = clock
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self.closed = False

    async def call(self, service: str, operation: str, *, wait: float = 0.0, **request: Any) -> Any:
        """Make a request; `wait` is how long the service is asked to take over it."""
        client = await self._client(service)
        try:
            async with self._clock.timeout(self.options.timeout + wait):
                return await getattr(client, operation)(**request)
        except TimeoutError as error:
            raise OutcomeUnknown(f"{operation}: no answer in {self.options.timeout} s") from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise Unavailable(str(error)) from error
        except HTTPClientError as error:
            raise OutcomeUnknown(str(error)) from error
        except ClientError as error:
            raise _error_of(operation, error) from error
        except BotoCoreError as error:
            raise Misconfigured(f"{operation}: {error}") from error

    async def _client(self, service: str) -> Any:
        async with self._making:
            if self.closed:
                raise Unavailable("closed")
            if service not in self._clients:
                # Reads files of descriptions and credentials, for some hundred milliseconds.
                self._clients[service] = await asyncio.to_thread(self._make, service)
            return self._clients[service]

    def _make(self, service: str) -> Any:
        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=self.options.timeout + LONGEST_POLL,
            max_pool_connections=CONNECTIONS,
            retries={"total_max_attempts": 1},
        )

        async def enter() -> Any:
            # The client opens its connections later, on the loop that uses it.
            making = _session().create_client(
                service,
                region_name=self.options.region or None,
                endpoint_url=self.options.endpoint or None,
                aws_access_key_id=self.options.access_key or None,
                aws_secret_access_key=self.options.secret_key or None,
                config=config,
            )
            return await making.__aenter__()

        try:
            return asyncio.run(enter())
        except (BotoCoreError, ValueError) as error:
            raise Misconfigured(
                f"no client of {service}: {error}",
                fix="name the region (sqs://eu-central-1), or set AWS_DEFAULT_REGION",
            ) from error

    async def aclose(self) -> None:
        self.closed = True
        clients = list(self._clients.values())
        self._clients.clear()
        for client in clients:
            await client.__aexit__(None, None, None)


def _error_of(operation: str, error: ClientError) -> SeawallError:
    said = error.response.get("Error", {})
    code, text = str(said.get("Code", "")), f"{operation}: {said.get('Message') or error}"
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _MISSING:
        return Missing(text)
    if code in _AGAIN or status in (429, 503):
        return Unavailable(text)
    if status >= 500:
        return OutcomeUnknown(text)
    return Misconfigured(f"{code}: {text}")
