"""What the warm parent imports for all, and the supervisor does not."""

import subprocess
import sys

from seawall.runtime.supervisor import preloaded
from seawall.spec.project import Server, ServiceSpec, Spec

PYTHON = {"orders": ServiceSpec(module="orders:service")}
OTHER = {"live": ServiceSpec(command=["node", "server.js"])}


def test_the_brokers_client_is_imported_once_and_last() -> None:
    spec = Spec(services=PYTHON, messages=Server(url="nats://broker"))
    assert preloaded(spec)[-1] == "seawall.messaging.transports.nats"
    assert "seawall.messaging.transports.nats" not in preloaded(Spec(services=PYTHON))
    assert preloaded(Spec(services=PYTHON))[-1] == "seawall.messaging.transports.valkey"


def test_commands_need_nothing_of_it() -> None:
    spec = Spec(services=OTHER, messages=Server(url="nats://broker"))
    assert all(name in ("uvloop", "seawall.runtime.gateway") for name in preloaded(spec))


def test_a_supervisor_loads_nothing_that_only_others_need() -> None:
    """It is there as long as the project is; what makes certificates alone is 8 MB."""
    heavy = {"cryptography", "fastapi", "numpy", "redis", "sqlalchemy", "uvicorn"}
    script = f"import sys, seawall.runtime.supervisor; print(*{heavy!r} & set(sys.modules))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
