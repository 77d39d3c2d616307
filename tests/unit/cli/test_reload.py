import pytest

from seawall.cli.failure import Failure
from seawall.cli.reload import health_of, path_of
from seawall.load.probing import Verified
from seawall.spec.identity import IdentitySpec
from seawall.spec.project import Spec


def spec(*routes: dict[str, object]) -> Spec:
    return Spec.model_validate(
        {
            "services": {"orders": {"module": "o:s"}, "live": {"command": ["x"]}},
            "gateway": {
                "routes": list(routes),
                "auth": {"shop": {"kind": "jwt", "secret": "s" * 32}},
            },
        }
    )


def test_the_first_open_route_to_the_service_is_asked() -> None:
    found = path_of(
        spec(
            {"path": "/live", "service": "live"},
            {"path": "/orders/{id}", "service": "orders"},
            {"path": "/mine", "service": "orders", "auth": "shop"},
            {"path": "/orders", "service": "orders"},
        ),
        "orders",
    )
    assert found == "/orders"


def test_without_an_open_route_the_service_itself_is_asked() -> None:
    guarded = spec({"path": "/mine", "service": "orders", "auth": "shop"})
    assert path_of(guarded, "orders") is None
    assert health_of(guarded, "orders") == "/livez"
    assert health_of(guarded, "live") == "/readyz"


def test_where_nobody_may_ask_a_person_says_what_to_ask() -> None:
    strict = spec().model_copy(update={"identity": IdentitySpec(mtls=True)})
    for declared, service in ((strict, "orders"), (spec(), "nobody")):
        with pytest.raises(
            Failure, match=f"no open route of the gateway leads to {service}"
        ) as raised:
            health_of(declared, service)
        assert "--path" in (raised.value.fix or "")


def test_what_was_verified_is_said_in_a_line() -> None:
    verified = Verified(300, (("status 502", 2),), ((200, 298), (502, 2)), 0.012, 0.001)
    assert (verified.failed, verified.served) == (2, 298)
    said = "300 requests meanwhile, 2 failed (answers: 298 x 200, 2 x 502; p99 12 ms)"
    assert str(verified) == said
