from tests.support.firewall import without

RULES = """\
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:MINE - [0:0]
-A FORWARD -j MINE
-A FORWARD -o docker0 -j DOCKER
COMMIT
"""


def test_only_what_an_engine_has_left_is_taken() -> None:
    assert without(RULES, ("DOCKER", "docker0"), ":FORWARD ACCEPT").splitlines() == [
        "*filter",
        ":FORWARD ACCEPT [0:0]",
        ":MINE - [0:0]",
        "-A FORWARD -j MINE",
        "COMMIT",
    ]
