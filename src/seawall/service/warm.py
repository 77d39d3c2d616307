"""What serving imports only once it begins, imported by a parent so that its forks need not.

uvicorn and FastAPI look for some of their parts when a server starts: some thirty modules, which
took each new replica longer than its fork. And FastAPI reads an endpoint's source at its first
request, to name the line in errors: the expressions by which Python takes source apart are
compiled then, which took longer than all else of that request.
"""

from contextlib import suppress
from importlib import import_module
from inspect import getsourcelines

# What forks run, with all that it imports.
from seawall.service import rehearsal as rehearsal
from seawall.service import serve as serve

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

with suppress(OSError):  # installed without its source
    getsourcelines(suppress)
