from seawall.runtime.environment import (
    Urls,
    replica_environment,
    service_environment,
    with_operator_token,
    with_own_programs,
)
from seawall.topology import Address

URLS = Urls("unix:///r", "redis://m", "unix:///s")


def _made(inherited: dict[str, str], declared: dict[str, str] | None = None) -> dict[str, str]:
    return service_environment(
        inherited, URLS, declared=declared or {}, database="sqlite:///x.db", drain=2.5
    )


def test_a_service_is_told_where_everything_is() -> None:
    made = _made({"HOME": "/root"})
    assert made["SEAWALL_REGISTRY__URL"] == "unix:///r"
    assert made["SEAWALL_MESSAGES__URL"] == "redis://m"
    assert made["SEAWALL_SESSIONS__URL"] == "unix:///s"
    assert made["SEAWALL_DATABASE__URL"] == "sqlite:///x.db"
    assert made["SEAWALL_DRAIN_SECONDS"] == "2.5"
    assert made["HOME"] == "/root"


def test_what_the_project_declares_wins() -> None:
    assert _made({"A": "1"}, {"A": "2", "PYTHONUNBUFFERED": "0"})["A"] == "2"


def test_a_file_variable_of_the_supervisor_does_not_win_over_ours() -> None:
    made = _made({"SEAWALL_REGISTRY__URL_FILE": "/run/secrets/url", "SEAWALL_REGISTRY__URL": "x"})
    assert "SEAWALL_REGISTRY__URL_FILE" not in made
    assert made["SEAWALL_REGISTRY__URL"] == "unix:///r"


def test_services_obey_the_operator_of_this_supervisor_only() -> None:
    before = {"SEAWALL_OPERATOR_TOKEN": "old", "SEAWALL_OPERATOR_TOKEN_FILE": "/run/old", "A": "1"}
    assert with_operator_token(before, "new") == {"SEAWALL_OPERATOR_TOKEN": "new", "A": "1"}


def test_what_one_process_was_told_is_not_handed_on() -> None:
    theirs = {"SEAWALL_LISTEN_FD": "3", "PORT": "80", "HOST": "h", "SEAWALL_INSTANCE_ID": "a-1"}
    assert not theirs.keys() & _made(theirs).keys()


def test_a_replica_knows_its_place() -> None:
    made = replica_environment(
        {"A": "1"}, instance_id="orders-2", incarnation="ab", address=Address("127.0.0.1", 81)
    )
    assert made == {
        "A": "1",
        "SEAWALL_INSTANCE_ID": "orders-2",
        "SEAWALL_INCARNATION": "ab",
        "HOST": "127.0.0.1",
        "PORT": "81",
    }
    placeless = replica_environment({}, instance_id="x", incarnation="y", address=None)
    assert "PORT" not in placeless


def test_our_own_python_is_found_first_and_named_once() -> None:
    first = with_own_programs({"PATH": "/bin"}, "/venv/bin/python")
    assert first["PATH"] == "/venv/bin:/bin"
    assert with_own_programs(first, "/venv/bin/python") == first
    assert with_own_programs({}, "/venv/bin/python")["PATH"].startswith("/venv/bin:")
