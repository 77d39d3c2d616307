"""Asks the process beside it how it is, by mTLS: for probes in a pod, where the kubelet has no
certificate to show.

    python -m seawall.identity.probe /readyz

The status is 0 if the answer is 200. It shows the certificate of `SEAWALL_TLS`, which is the
process's own. Nothing else of Seawall is imported: a probe runs every few seconds.
"""

import http.client
import os
import ssl
import sys
from collections.abc import Mapping

# Above the timeout that probes have, so that it is they who decide.
_WITHIN = 10.0  # seconds


def ask(path: str, environ: Mapping[str, str]) -> int:
    """The status that 127.0.0.1:`PORT` answers with; 0 if it does not."""
    folder, port = environ["SEAWALL_TLS"], int(environ["PORT"])
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # who it is stands in the certificate, and it is ourselves
        context.load_verify_locations(f"{folder}/ca.crt")
        context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=_WITHIN, context=context
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return 0


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1], os.environ) != 200)
