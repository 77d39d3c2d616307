"""The table `[identity]`: who the processes of a project are to each other."""

from pydantic import Field

from seawall.spec.part import Part


class IdentitySpec(Part):
    """With `mtls`, every process shows a certificate of its service, and calls by TLS only."""

    mtls: bool = False
    # The first part of every id: spiffe://TRUST_DOMAIN/PROJECT/SERVICE.
    trust_domain: str = Field(default="seawall.local", pattern=r"^[a-z0-9._-]{1,255}$")
    # Seconds; each is replaced after half of them. A day at most: nothing is ever revoked.
    certificate_lifetime: float = Field(default=12 * 3600.0, ge=10, le=24 * 3600)
