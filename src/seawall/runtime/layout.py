"""Where things are in the folder of a running project.

.seawall/run/admin.sock     the supervisor's admin API
.seawall/run/valkey.sock    the embedded Valkey
.seawall/run/gateway-1.sock the admin listener of that gateway
.seawall/run/canaries.json  new versions on trial
.seawall/run/parent-9.sock  a warm parent without a supervisor waits there for the next one
.seawall/run/*.lock         held while a supervisor, or its processes, live
.seawall/logs/              one file per instance, and its predecessor
.seawall/data/              SQLite files of services
.seawall/valkey/            data of the embedded Valkey
.seawall/identity/          the development authority; certificates of what runs
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from seawall.errors import Misconfigured

# A Unix socket's address holds 108 bytes on Linux and 104 on macOS, with its final zero.
_LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / ".seawall"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def valkey(self) -> Path:
        return self.folder / "valkey"

    @property
    def supervisor_lock(self) -> Path:
        return self.run / "supervisor.lock"

    @property
    def processes_lock(self) -> Path:
        return self.run / "processes.lock"

    @property
    def canaries(self) -> Path:
        """New versions on trial, for the gateways."""
        return self.run / "canaries.json"

    @property
    def supervisor_log(self) -> Path:
        return self.logs / "supervisor.out"

    @property
    def admin_socket(self) -> Path:
        return self._socket("admin")

    @property
    def valkey_socket(self) -> Path:
        return self._socket("valkey")

    @property
    def authority(self) -> Path:
        """The development authority, with its key."""
        return self.folder / "identity" / "authority.pem"

    @property
    def certificates(self) -> Path:
        """A folder for each process that runs."""
        return self.folder / "identity" / "certificates"

    def gateway_socket(self, instance_id: str) -> Path:
        """Of a gateway's admin listener."""
        return self._socket(instance_id)

    @property
    def parents(self) -> str:
        """How the sockets begin on which parents wait whose supervisor was killed."""
        longest = 4_194_304  # what Linux numbers processes up to
        return str(self._socket(f"parent-{longest}")).removesuffix(f"-{longest}.sock")

    def database_url(self, service: str) -> str:
        """Where a service keeps its data if its spec names no database."""
        return f"sqlite+aiosqlite:///{self.data / service}.db"

    def prepare(self) -> None:
        """Make the folders; raises `Misconfigured` if that cannot be done."""
        try:
            for folder in (self.run, self.logs, self.data, self.valkey):
                folder.mkdir(parents=True, exist_ok=True)
            # Data and the admin API are for the one who started the project.
            self.folder.chmod(0o700)
            for name in ("admin", "valkey"):
                self._prepare_socket(name)
            _prepare_private(self._sockets)
        except OSError as exc:
            raise Misconfigured(
                f"{exc.filename or self.folder} cannot be written: {exc.strerror}",
                fix=f"make {self.root} writable, or free space on its disk",
            ) from exc

    def leave(self) -> None:
        """Remove the admin socket, and the folder that a long path has its sockets in unless
        something is there: a warm parent may wait for the next supervisor."""
        with suppress(OSError):
            self.admin_socket.unlink(missing_ok=True)
            if self._sockets != self.run:
                self._sockets.rmdir()

    @property
    def _sockets(self) -> Path:
        return Path(self.parents).parent  # whose names are the longest

    def _prepare_socket(self, name: str) -> None:
        path, note = self._socket(name), self.run / f"{name}.path"
        if path.parent == self.run:
            note.unlink(missing_ok=True)
            return
        _prepare_private(path.parent)
        note.write_text(f"{path}\n", encoding="utf-8")

    def _socket(self, name: str) -> Path:
        path = self.run / f"{name}.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"seawall-{os.getuid()}-{digest}" / f"{name}.sock"


def _prepare_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(1, "it belongs to somebody else", str(folder))
