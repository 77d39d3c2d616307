"""The authentications of a gateway, made of the spec, and kept while what it says of them stays.

Key sets of issuers are fetched, refreshed and rate-limited by `RemoteKeys`: one that stays is not
read anew because something else in the configuration has changed.
"""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from seawall.errors import SeawallError, Unavailable
from seawall.gateway.auth import Provider
from seawall.gateway.upstream import Towards
from seawall.identity.api_keys import ApiKey, ApiKeys
from seawall.identity.keys import Keys, LocalKeys, key_from_secret, keys_from_file
from seawall.identity.remote_keys import MAX_DOCUMENT, Fetch, RemoteKeys
from seawall.identity.tokens import TokenRules, TokenVerifier
from seawall.registry.watcher import Watcher
from seawall.spec.gateway import AuthSpec
from seawall.spec.project import Spec
from seawall.topology import Address
from seawall.transport.http1 import request_head
from seawall.transport.pool import Pool, PoolConfig
from seawall.transport.tls import Secured

# A key set is small and its server near; the reader's own patience ends sooner.
_FETCH_WITHIN = 10.0  # seconds

# Of a service of the project; one byte above the most, as for others, tells that there are more.
_ONE = PoolConfig(limit=1, max_body=MAX_DOCUMENT + 1)

_API_KEY_HEADER = "x-api-key"

# How long a gateway waits for the keys of issuers before it accepts connections. Their services
# start beside it and take a second; an issuer that stays away must not keep all others away.
KEYS_WITHIN = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class _Made:
    spec: AuthSpec
    provider: Provider
    remote: tuple[RemoteKeys, ...]
    owner: AsyncExitStack  # of what reads its keys


class Providers:
    """The authentications of one gateway process. `aclose` gives back what they hold."""

    def __init__(self, watcher: Watcher, towards: Towards | None = None) -> None:
        self._fetch = _fetcher(watcher, towards)
        self._made: dict[str, _Made] = {}

    async def drafted(self, spec: Spec) -> "Draft":
        """What a spec wants, and what of it is new. Raises `Misconfigured`."""
        made: dict[str, _Made] = {}
        fresh: list[_Made] = []
        try:
            for name, auth in spec.gateway.auth.items():
                known = self._made.get(name)
                if known is None or known.spec != auth:
                    known = await self._make(auth, spec)
                    fresh.append(known)
                made[name] = known
        except BaseException:
            await _close(fresh)
            raise
        return Draft(made, fresh)

    async def adopt(self, draft: "Draft") -> None:
        """The draft is in use; what it does not need is given up."""
        kept = {id(one) for one in draft.made.values()}
        gone = [one for one in self._made.values() if id(one) not in kept]
        self._made = draft.made
        await _close(gone)

    async def aclose(self) -> None:
        gone, self._made = list(self._made.values()), {}
        await _close(gone)

    async def _make(self, auth: AuthSpec, spec: Spec) -> _Made:
        async with AsyncExitStack() as stack:
            remote: list[RemoteKeys] = []
            provider = await _provider(auth, spec, self._fetch, stack, remote)
            return _Made(auth, provider, tuple(remote), stack.pop_all())


@dataclass(frozen=True, slots=True)
class Draft:
    """Authentications that are not in use yet."""

    made: dict[str, _Made]
    fresh: list[_Made]

    @property
    def providers(self) -> Mapping[str, Provider]:
        return {name: one.provider for name, one in self.made.items()}

    def unread(self) -> Iterator[RemoteKeys]:
        """Keys that nobody has asked for yet."""
        for one in self.fresh:
            yield from one.remote

    async def aclose(self) -> None:
        """It will not be used."""
        await _close(self.fresh)


async def _close(made: Sequence[_Made]) -> None:
    for one in made:
        await one.owner.aclose()


async def keys_read(remote: Iterable[RemoteKeys], within: float) -> bool:
    """Whether each key set was read once; returns as soon as that is so, or after `within`."""
    try:
        async with asyncio.timeout(within):
            for keys in remote:
                await keys.read_once()
    except TimeoutError:
        return False
    return True


async def _provider(
    auth: AuthSpec,
    spec: Spec,
    fetch: Fetch,
    stack: AsyncExitStack,
    remote: list[RemoteKeys],
) -> Provider:
    """One way to know who asks; `remote` gets the keys that it will have to read."""
    if auth.kind == "key":
        known = (
            ApiKey(
                sha256=key.sha256,
                subject=key.subject,
                scopes=tuple(key.scopes),
                plan=key.plan or "",
            )
            for key in auth.keys
        )
        return Provider(ApiKeys(known), header=_API_KEY_HEADER)
    rules = TokenRules(
        issuer=auth.issuer,
        audience=auth.audience,
        algorithms=frozenset(auth.algorithms),
        plan_claim=auth.plan_claim,
    )
    keys: Keys
    if auth.secret is not None:
        keys = LocalKeys([key_from_secret(auth.secret)])
    elif "://" in (url := auth.jwks or "") or url.startswith("service:"):
        keys = fetched = await stack.enter_async_context(RemoteKeys(url, fetch))
        remote.append(fetched)
    else:
        keys = await asyncio.to_thread(keys_from_file, spec.root / url)
    return Provider(TokenVerifier(keys, rules))


def _fetcher(watcher: Watcher, towards: Towards | None = None) -> Fetch:
    async def fetch(url: str) -> bytes:
        if not url.startswith("service:"):
            return await asyncio.to_thread(_get, url)
        service, _, path = url.removeprefix("service:").partition("/")
        try:
            address = watcher.resolve(service)[0].address
            return await _ask(address, f"/{path}", towards(service) if towards else None)
        except SeawallError as exc:
            raise Unavailable(f"{url}: {exc}") from exc

    return fetch


async def _ask(address: Address, path: str, tls: Secured | None) -> bytes:
    pool = Pool(address, _ONE, tls=tls)
    try:
        head = request_head("GET", path, str(address), [("accept", "application/json")], None)
        answer = await pool.exchange(head, b"", within=_FETCH_WITHIN, method="GET")
    finally:
        pool.close()
    if answer.status != 200:
        raise Unavailable(f"{address} answered {answer.status}")
    return answer.body


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_FETCH_WITHIN) as answer:
            return bytes(answer.read(MAX_DOCUMENT + 1))
    except (urllib.error.URLError, ValueError) as exc:
        raise Unavailable(f"{url}: {exc}") from exc
