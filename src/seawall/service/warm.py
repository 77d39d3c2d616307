"""What serving imports only once it begins, imported by a parent so that its forks need not.

uvicorn and FastAPI look for some of their parts when a server starts: some thirty modules, which
took each new replica longer than its fork.
"""

from contextlib import suppress
from importlib import import_module

from seawall.service import serve as serve  # what forks run, with all that it imports

_PARTS = (
    "uvicorn.lifespan.on",
    "uvicorn.protocols.websockets.auto",
    "fastapi.telemetry._runtime",
    "seawall.registry.valkey",
)

for _part in _PARTS:
    # What another release calls otherwise is imported by each replica again, and no worse.
    with suppress(ImportError):
        import_module(_part)
