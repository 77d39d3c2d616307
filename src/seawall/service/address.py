"""Where this process listens, and where others reach that."""

import socket

from seawall.topology import Address


def listening(port: int | None) -> Address | None:
    """A TCP socket of this process that listens; on `port` if that is given."""
    import psutil  # here: only foreign servers leave us to look, and it takes 10 ms to load

    try:
        sockets = psutil.Process().net_connections(kind="tcp")
    except psutil.Error:
        return None
    for found in sockets:
        if found.status == psutil.CONN_LISTEN and port in (None, 0, found.laddr.port):
            return Address(found.laddr.ip, found.laddr.port)
    return None


def reachable(address: Address) -> Address:
    """Where others reach a socket bound to every interface: at our address on the way out."""
    if address.host not in ("0.0.0.0", "::", ""):
        return address
    family = socket.AF_INET6 if address.host == "::" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing; it only asks the routing table.
            probe.connect(("2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1", 9))
            return Address(probe.getsockname()[0], address.port)
        except OSError:
            return Address("127.0.0.1", address.port)
