"""seawall.toml: where values come from, and what is said when one is wrong."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from seawall.errors import Misconfigured
from seawall.spec.load import load_spec
from seawall.spec.project import Spec

SHOP = """
[gateway]
port = 9000

[[gateway.routes]]
path = "/orders"
service = "orders"
limit = { rate = 5, burst = 10, by = "address" }

[services.orders]
module = "orders.app:service"
needs = ["stock-api"]
replicas = { min = 1, max = 4 }

[services.stock-api]
command = ["node", "server.js"]
"""

_ROUTE = "[services.a]\nmodule = 'a:b'\n[[gateway.routes]]\nservice = 'a'\n"

Load = Callable[..., Spec]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str = SHOP, environ: Mapping[str, str] | None = None, **more: Any) -> Spec:
        (tmp_path / "seawall.toml").write_text(text)
        return load_spec(tmp_path, environ=environ, **more)

    return load


def test_file_over_default(load: Load, tmp_path: Path) -> None:
    spec = load()
    assert spec.gateway.port == 9000
    assert spec.gateway.host == "127.0.0.1"
    assert spec.services["orders"].replicas.max == 4
    assert spec.services["stock-api"].replicas.min == 1
    assert spec.root == tmp_path.resolve()
    assert spec.project.name == tmp_path.name
    assert spec.origins["gateway.port"] == "seawall.toml"


def test_profile_over_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "seawall.prod.toml").write_text("[gateway]\nport = 80\n")
    assert load(profile="prod").gateway.port == 80
    assert load(environ={"SEAWALL_PROFILE": "prod"}).gateway.port == 80
    assert len(load(profile="prod").gateway.routes) == 1


def test_environment_over_profile_and_flag_over_environment(load: Load, tmp_path: Path) -> None:
    (tmp_path / "seawall.prod.toml").write_text("[gateway]\nport = 80\n")
    environ = {"SEAWALL_GATEWAY__PORT": "81"}
    assert load(profile="prod", environ=environ).gateway.port == 81
    spec = load(profile="prod", environ=environ, flags={"gateway.port": 82})
    assert spec.gateway.port == 82
    assert spec.origins["gateway.port"] == "flag --gateway.port"


def test_environment_reaches_services_tables_and_lists(load: Load) -> None:
    spec = load(
        environ={
            "SEAWALL_SERVICES__STOCK_API__REPLICAS": "3",
            "SEAWALL_SERVICES__ORDERS__ENV__Card_Delay": "0.5",
            "SEAWALL_SERVICES__ORDERS__NEEDS": "[]",
            "SEAWALL_MESSAGES__URL": "redis://broker:6379/0",
        }
    )
    assert spec.services["stock-api"].replicas.max == 3
    assert spec.services["orders"].env == {"Card_Delay": "0.5"}
    assert spec.services["orders"].needs == []
    assert spec.messages.url == "redis://broker:6379/0"


def test_secret_from_a_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("redis://:hidden@broker\n")
    spec = load(environ={"SEAWALL_REGISTRY__URL_FILE": str(tmp_path / "secret")})
    assert spec.registry.url == "redis://:hidden@broker"
    with pytest.raises(Misconfigured, match=r"SEAWALL_REGISTRY__URL_FILE: .*nowhere"):
        load(environ={"SEAWALL_REGISTRY__URL_FILE": "nowhere"})


def test_variables_that_are_no_paths_are_left_alone(load: Load) -> None:
    environ = {"SEAWALL_INSTANCE_ID": "orders-1", "SEAWALL_DATABASE__URL": "sqlite://", "PATH": "/"}
    assert load(environ=environ) == load()


def test_pyproject_is_read_where_there_is_no_file_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.seawall.gateway]\nport = 7\n")
    assert load_spec(tmp_path).gateway.port == 7
    (tmp_path / "seawall.toml").write_text("[gateway]\nport = 8\n")
    assert load_spec(tmp_path).gateway.port == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gatway]\nport = 1", r"seawall.toml: gatway: unknown key; did you mean 'gateway'"),
        ("[gateway]\nprot = 1", r"gateway.prot: unknown key; did you mean 'port'"),
        ("[gateway]\nport = 70000", r"gateway.port: .*less than or equal to 65535"),
        ("[services.a]\nmodule = 'a'", r"services.a: .*package.module:name"),
        ("[services.a]\nport = 1", r"services.a: needs either module"),
        ("[services.A_b]\nmodule = 'a:b'", r"'A_b' cannot name a service"),
        ("[services.a]\nmodule = 'a:b'\nneeds = ['c']", r"services.a.needs: 'c' is not declared"),
        ("[services.a]\nmodule = 'a:b'\nreplicas = {min = 3, max = 2}", r"max \(2\) is below min"),
        ("[services.a]\ncommand = ['x']\nversion = 'one'", r"'one' is not a version"),
        ("[[gateway.routes]]\nservice = 'a'", r"routes\[0\].service: 'a' is not declared"),
        ("[gateway.auth.x]\nkind = 'jwt'", r"gateway.auth.x: jwt needs either jwks or secret"),
        (_ROUTE + "limit = {}", r"limit: a limit has either a rate, or requests and a window"),
        (_ROUTE + "limit = {rate = 1, requests = 9, window = 1}", r"limit: .*either a rate, or"),
        (_ROUTE + "limit = {rate = 1, algorithm = 'sliding-window'}", r"has requests and a window"),
        (_ROUTE + "limit = {rate = 1}\nlimits = [{rate = 1}]", r"give one of them"),
        (_ROUTE + "plans = true", r"gateway.default_plan: '' is not declared"),
        (
            "[gateway]\nplans = {gold = {}}\n[gateway.auth.x]\nkind = 'key'\n"
            "keys = [{sha256 = 'x', subject = 'ann', plan = 'glod'}]",
            r"gateway.auth.x.keys.ann: 'glod' is not declared; did you mean 'gold'",
        ),
        ("[gateway", r"seawall.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(load: Load, text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        load(text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SEAWALL_GATEWAY__PROT", "1", r"SEAWALL_GATEWAY__PROT: .*did you mean 'port'"),
        ("SEAWALL_SERVICES__ORDRS__PORT", "1", r"no service 'ordrs'; did you mean 'orders'"),
        ("SEAWALL_GATEWAY__PORT", "many", r"SEAWALL_GATEWAY__PORT: gateway.port: .*integer"),
        ("SEAWALL_GATEWAY__ROUTES", "[", r"SEAWALL_GATEWAY__ROUTES is not JSON"),
        ("SEAWALL_PROFILE", "dev", r"profile 'dev' has no file seawall.dev.toml"),
    ],
)
def test_wrong_variables_are_named(load: Load, name: str, value: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        load(environ={name: value})


def test_a_folder_without_a_project_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no seawall.toml in"):
        load_spec(tmp_path)
