"""Projects to deploy: a small one, and one that says all that can be said."""

from pathlib import Path

from seawall.deploy.declared import Call, Declarations, Declared, Handling
from seawall.deploy.kubernetes import Files, objects
from seawall.deploy.naming import Object
from seawall.deploy.target import Ingress, KubeVersion, Mtls, Target
from seawall.messaging.base import Subscription
from seawall.spec.load import load_spec
from seawall.spec.project import Spec

SMALL = """
[project]
name = "shop"
[messages]
url = "redis://valkey:6379/0"
[registry]
url = "redis://valkey:6379/0"
[[gateway.routes]]
path = "/orders"
service = "orders"
[services.orders]
module = "orders:service"
needs = ["stock"]
replicas = 2
[services.stock]
command = ["stock"]
"""

EVERYTHING = """
[project]
name = "shop"
[registry]
url = "kubernetes://"
[messages]
url = "redis://:secret@valkey:6379/0"
[sessions]
url = "rediss://valkey:6379/2"

[deploy]
image = "shop:1.2.0"
namespace = "production"
host = "shop.example"
tls_secret = "shop-tls"
pull_secret = "pull"
secrets = { SEAWALL_OPERATOR_TOKEN = "operator/token" }
egress_ports = [5432]
database_connections = 500
monitoring_namespace = "monitoring"
gateway_class = "envoy"
traffic = "mesh"

[gateway]
replicas = 3
drain = 20
[gateway.auth.people]
jwks = "service:users/keys.json"
[gateway.upstreams."*"]
max_connections = 64
outliers = { consecutive_failures = 5, eject_for = 1.5 }
[[gateway.routes]]
path = "/orders"
[[gateway.routes.split.arms]]
service = "orders"
version = "1.0.0"
weight = 9
[[gateway.routes.split.arms]]
service = "orders"
version = "2.0.0"
weight = 1
[[gateway.routes.split.arms]]
service = "orders"
version = "2.0.0"
match = { headers = { X-Beta = "1" }, cookies = { beta = "*" } }
[[gateway.routes]]
path = "/stock"
path_type = "regex"
service = "stock"
mirror = { service = "orders", percent = 5 }
[gateway.routes.faults]
delay = { seconds = 0.25, percent = 1 }
abort = { status = 503, percent = 1 }
[[gateway.routes]]
path = "/live"
stream = true
service = "stock"

[services.orders]
module = "orders:service"
needs = ["stock"]
replicas = { min = 2, max = 20 }
zone = "a"
priority = 1
env = { LOG_LEVEL = "debug" }
cwd = "orders"
[services.orders.deploy]
cpu = 0.25
cpu_limit = 2
memory = 256
memory_limit = 1024
secrets = { PAYMENT_TOKEN = "payments/token" }
mounts = { "/run/keys" = "keys" }
writable = ["/var/cache", "/tmp"]
cpu_target = 60

[services.stock]
command = ["node", "server.js"]
version = "3.1.4"
replicas = 1
drain = 5
[services.stock.deploy]
image = "stock:3"
[services.stock.probes]
startup = { exec = ["true"], period = 1.5, failure_threshold = 20 }
liveness = { path = "/alive", period = 4 }
readiness = { timeout = 3, success_threshold = 2 }

[services.mails]
module = "mails:service"
database = "postgresql+asyncpg://database/mails"
replicas = { min = 0, max = 5 }
deploy = { scaler = "keda", backlog = 50 }

[services.users]
module = "users:service"
"""

# Scaled by what only Seawall knows.
SCALED = (
    SMALL.replace("replicas = 2", "replicas = { min = 2, max = 9 }")
    + """
[[services.orders.scale]]
metric = "requests"
target = 50
"""
)

# The same without KEDA.
SCALED_BY_API = (
    SCALED
    + """
[deploy]
metrics = "adapter"
"""
)

# What the code of EVERYTHING's services says.
DECLARED: Declarations = {
    "orders": Declared(
        version="1.0.0",
        needs=("users",),
        calls=(Call(callee="stock", timeout=1.0, attempts=3),),
        handlings=(Handling(subscription=Subscription("payment.made", "orders"), timeout=300.0),),
        pool=10,
    ),
    "mails": Declared(
        version="1.1.0",
        handlings=(Handling(subscription=Subscription("order.done", "mails"), timeout=5.0),),
        pool=2,
    ),
    "users": Declared(version="1.0.0", pool=5),
}


def project(folder: Path, text: str = SMALL) -> Spec:
    (folder / "seawall.toml").write_text(text)
    return load_spec(folder)


def made(
    spec: Spec,
    declared: Declarations | None = None,
    version: str = "1.31",
    ingress: Ingress = Ingress.NGINX,
    mtls: Mtls = Mtls.NONE,
) -> Files:
    target = Target(version=KubeVersion.parse(version), ingress=ingress, mtls=mtls)
    return objects(spec, declared or {}, target)


def flat(files: Files) -> list[Object]:
    return [one for each in files.values() for one in each]


def one(files: Files, kind: str, name: str) -> Object:
    (found,) = (o for o in flat(files) if o["kind"] == kind and o["metadata"]["name"] == name)
    return found
