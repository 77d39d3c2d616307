import json
import subprocess
import sys
from importlib import import_module

import pytest

from seawall.cli.main import COMMANDS, main

# What makes a start slow. `seawall --help` and `seawall ps` need none of it.
HEAVY = ("fastapi", "starlette", "pydantic", "redis", "sqlalchemy", "uvicorn", "asyncio", "psutil")


def _loaded(*arguments: str) -> set[str]:
    """The heavy modules that a command line has imported at its end."""
    script = (
        "import sys\nfrom seawall.cli.main import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    return set(eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ps"], ["ps", "--help"], ["scale", "a=1"], ["version"], ["nonsense"]]
)
def test_light_commands_stay_light(arguments: list[str]) -> None:
    assert _loaded(*arguments) == set()


def test_commands_do_not_load_what_services_need() -> None:
    """All but `up`, which is the supervisor."""
    modules = sorted({module for module, _ in COMMANDS.values()} - {"up"})
    services_need = {"fastapi", "starlette", "pydantic", "redis", "sqlalchemy", "uvicorn", "psutil"}
    script = (
        f"import sys\nfrom importlib import import_module\nfor name in {modules!r}:\n"
        "    import_module(f'seawall.cli.{name}')\n"
        f"    loaded = {services_need!r} & set(sys.modules)\n"
        "    assert not loaded, (name, loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in shown
        assert summary in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_file_and_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(f"seawall.cli.{COMMANDS[name][0]}")
    assert module.__doc__
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert f"seawall {name}" in capsys.readouterr().out


def test_a_slip_is_answered_with_the_nearest_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lgos"]) == 2
    told = capsys.readouterr().err
    assert "there is no command 'lgos'" in told
    assert "fix: seawall logs" in told


def test_wrong_options_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["ps", "--no-such-option"])
    assert left.value.code == 2
    assert "no-such-option" in capsys.readouterr().err


def test_options_go_before_or_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--json", "version"], ["version", "--json"], ["--version", "--json"]):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["schema"] == "seawall.version/1"


def test_what_is_not_running_is_told(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["ps"], ["scale", "a=1"], ["restart", "a"], ["call", "a", "/"], ["logs"]):
        assert main(["--project", str(tmp_path), *command]) == 3
        told = capsys.readouterr()
        assert "is not running" in told.err
        assert "seawall up" in told.err
        assert told.out == ""
    assert main(["--json", "--project", str(tmp_path), "ps"]) == 3
    assert json.loads(capsys.readouterr().err)["code"] == "NotRunning"
    assert main(["--project", str(tmp_path), "down"]) == 0


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    pipe = subprocess.run(
        f"{sys.executable} -m seawall.cli --help | true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert pipe.stderr == ""
