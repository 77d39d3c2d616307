from pathlib import Path

from seawall.gateway import exchange
from seawall.version import build


def test_the_build_is_that_of_the_modules_at_hand() -> None:
    interpreted = Path(exchange.__file__).suffix == ".py"
    assert build() == ("interpreted" if interpreted else "compiled")
