"""A project as a Compose file: the containers of a cluster on one machine, with their servers.

No secret is in the file: passwords come from its environment, or from `.env` beside it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from seawall.deploy.image import HEALTH
from seawall.deploy.naming import Object
from seawall.deploy.pods import USER
from seawall.deploy.workload import ADMIN_PORT, PORT, Workload, shared_environment
from seawall.spec.project import Spec

HEADING = "Made by `seawall deploy compose`; change seawall.toml instead."

# In this folder, beside the file.
SECRETS = "secrets"

_VALKEY = "redis://valkey:6379/0"
_RABBITMQ = "amqp://seawall:${RABBITMQ_PASSWORD}@rabbitmq:5672/"
_DATABASE = "postgresql+asyncpg://postgres:${POSTGRES_PASSWORD}@postgres:5432/"
_DATABASE_URL = "SEAWALL_DATABASE__URL"
_AMQP = frozenset({"amqp", "amqps"})

SERVERS: Mapping[str, Object] = {
    "valkey": {
        "image": "valkey/valkey:8",
        "command": ["valkey-server", "--appendonly", "yes"],
        "healthcheck": {"test": ["CMD", "valkey-cli", "ping"], "interval": "5s"},
        "volumes": ["valkey:/data"],
    },
    "rabbitmq": {
        "image": "rabbitmq:4",
        "environment": {
            "RABBITMQ_DEFAULT_USER": "seawall",
            "RABBITMQ_DEFAULT_PASS": "${RABBITMQ_PASSWORD:?write it into .env}",
        },
        "healthcheck": {"test": ["CMD", "rabbitmq-diagnostics", "-q", "ping"], "interval": "5s"},
        "volumes": ["rabbitmq:/var/lib/rabbitmq"],
    },
    "postgres": {
        "image": "postgres:17",
        "environment": {"POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?write it into .env}"},
        "healthcheck": {"test": ["CMD", "pg_isready", "-U", "postgres"], "interval": "5s"},
        "volumes": [
            "postgres:/var/lib/postgresql/data",
            "./databases.sql:/docker-entrypoint-initdb.d/databases.sql:ro",
        ],
    },
}


def compose(spec: Spec, workloads: Sequence[Workload]) -> Object:
    """The file as a value. Which servers there are depends on who needs them."""
    servers = ["valkey"]
    if urlsplit(spec.messages.url or "").scheme in _AMQP:
        servers.append("rabbitmq")
    if _databases(workloads):
        servers.append("postgres")
    return {
        "name": spec.project.name,
        "services": {
            **{name: {**SERVERS[name], "restart": "unless-stopped"} for name in servers},
            **{w.name: _container(w, spec, servers) for w in workloads},
        },
        "volumes": {name: {} for name in servers},
    }


def databases(workloads: Sequence[Workload]) -> str:
    """What PostgreSQL runs at its first start, from `databases.sql` beside the file; nothing
    where there is no database."""
    names = _databases(workloads)
    lines = (f'CREATE DATABASE "{name}";\n' for name in names)
    return f"-- {HEADING}\n{''.join(lines)}" if names else ""


def _databases(workloads: Sequence[Workload]) -> list[str]:
    return [w.name for w in workloads if any(s.variable == _DATABASE_URL for s in w.secrets)]


def _container(workload: Workload, spec: Spec, servers: Sequence[str]) -> Object:
    low, size = max(1, workload.replicas[0]), workload.size
    made: Object = {
        "image": workload.image,
        "command": list(workload.command),
        "working_dir": workload.folder,
        "environment": dict(sorted(_environment(workload, spec))),
        "depends_on": {name: {"condition": "service_healthy"} for name in servers},
        "deploy": {
            "mode": "replicated",  # the default, which podman-compose does not know
            "replicas": low,
            "resources": {
                "limits": {"cpus": f"{size.cpu_limit:g}", "memory": f"{size.memory_limit}M"}
            },
        },
        "restart": "unless-stopped",
        "stop_grace_period": f"{math.ceil(workload.grace)}s",
        "user": f"{USER}:{USER}",
        "read_only": True,
        "tmpfs": ["/tmp", *(path for path in sorted(size.writable) if path != "/tmp")],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    if size.mounts:  # what is a Secret on a cluster is a folder beside the file
        made["volumes"] = [
            f"./{SECRETS}/{name}:{path}:ro" for path, name in sorted(size.mounts.items())
        ]
    if workload.is_gateway:
        made["deploy"]["replicas"] = 1  # one process has the machine's port
        made["ports"] = [f"{spec.gateway.port or 8000}:{PORT}"]
    return made


def _environment(workload: Workload, spec: Spec) -> Iterator[tuple[str, str]]:
    yield from shared_environment(spec).items()
    yield from workload.environment.items()
    if workload.is_gateway:
        yield HEALTH, f"http://127.0.0.1:{ADMIN_PORT}/readyz"
    elif workload.paths.ready != "/readyz":
        yield HEALTH, f"http://127.0.0.1:{PORT}{workload.paths.ready}"
    queues = urlsplit(spec.messages.url or "").scheme in _AMQP
    here = {
        _DATABASE_URL: f"{_DATABASE}{workload.name}",
        "SEAWALL_MESSAGES__URL": _RABBITMQ if queues else _VALKEY,
        "SEAWALL_REGISTRY__URL": _VALKEY,
        "SEAWALL_SESSIONS__URL": _VALKEY,
    }
    for secret in workload.secrets:
        yield secret.variable, here.get(secret.variable, f"${{{secret.variable}}}")
