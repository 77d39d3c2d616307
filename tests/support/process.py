"""A service in a process of its own, as it is deployed."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.servers import free_port
from tests.support.waiting import eventually_sync

SERVE = "import sys; from seawall.service.serve import serve; sys.exit(serve({target!r}))"


class ServiceProcess:
    """`seawall.service.serve` (or any other command) over a module written to `folder`."""

    def __init__(
        self,
        folder: Path,
        source: str,
        env: Mapping[str, str] | None = None,
        *,
        command: list[str] | None = None,
        name: str = "app",
        pass_fds: Sequence[int] = (),
        stdout: int | None = None,
    ) -> None:
        (folder / f"{name}.py").write_text(source)
        self.port = int((env or {}).get("PORT") or free_port())
        self.log = folder / f"{name}-{self.port}.log"
        self._folder = folder
        self._command = command or [sys.executable, "-c", SERVE.format(target=f"{name}:service")]
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SEAWALL_")},
            "PYTHONPATH": str(folder),
            "PORT": str(self.port),
            **(env or {}),
        }
        self._pass_fds = tuple(pass_fds)
        self._stdout = stdout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.log.read_text()

    def start(self, *, until: str = "listening on") -> Self:
        self.spawn()
        eventually_sync(lambda: until in self.output or self.ended, within=15.0)
        assert not self.ended, self.output
        return self

    def spawn(self) -> None:
        """Start it and do not wait."""
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [part.replace("{port}", str(self.port)) for part in self._command],
                cwd=self._folder,
                env=self._env,
                stdout=out if self._stdout is None else self._stdout,
                stderr=out,
                pass_fds=self._pass_fds,
            )

    @property
    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, within: float = 15.0) -> int:
        """The exit status; fails if it does not end in time."""
        assert self._process is not None
        return self._process.wait(within)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self._process is not None and not self.ended:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
