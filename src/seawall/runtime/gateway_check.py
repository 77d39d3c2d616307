"""Whether a gateway would take the spec: everything that it makes of it, but no connection."""

from collections.abc import Mapping

from seawall.gateway.auth import Provider
from seawall.gateway.gateway import Gateway, Static
from seawall.gateway.ledger import MemoryLedger
from seawall.identity.api_keys import ApiKeys
from seawall.identity.keys import key_from_secret, keys_from_file
from seawall.runtime.gateway import limits_ledger_url
from seawall.runtime.gateway_config import gateway_config
from seawall.spec.project import Spec


def checked(spec: Spec) -> str:
    """The revision that gateways would have. Raises `Misconfigured`."""
    config = gateway_config(spec.gateway)
    limits_ledger_url(config, spec)
    gateway = Gateway(config, Static(), providers=_providers(spec), ledger=MemoryLedger(), log=len)
    return gateway.revision


def _providers(spec: Spec) -> Mapping[str, Provider]:
    """Stand-ins; keys that are here are read, those of issuers are not fetched."""
    for auth in spec.gateway.auth.values():
        if auth.secret is not None:
            key_from_secret(auth.secret)
        elif auth.jwks and "://" not in auth.jwks and not auth.jwks.startswith("service:"):
            keys_from_file(spec.root / auth.jwks)
    return {name: Provider(ApiKeys(())) for name in spec.gateway.auth}
