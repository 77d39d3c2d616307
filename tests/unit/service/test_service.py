import subprocess
import sys
import tempfile

import pytest

import seawall
from seawall import Service
from seawall.errors import Misconfigured


def test_names_are_loaded_when_used() -> None:
    code = (
        "import sys, seawall, seawall.errors, seawall.resilience.breaker;"
        "heavy = {'fastapi', 'redis', 'pydantic', 'sqlalchemy'} & set(sys.modules);"
        "assert not heavy, heavy; seawall.Service; assert 'fastapi' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in seawall.__all__:
        assert getattr(seawall, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        seawall.Nothing  # noqa: B018


def test_declaring_touches_nothing() -> None:
    code = (
        "import os, threading, asyncio; from seawall import Service;"
        "s = Service('orders', needs=['stock']); d = s.database(); c = s.client('stock');"
        "s.sessions();"
        "assert threading.active_count() == 1; assert not os.listdir('.'); print(s, d, c)"
    )
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, cwd=empty, capture_output=True, text=True
        )
    assert "<Service orders 0.1.0 gone>" in done.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Service("Orders"),
        lambda: Service("orders", version="latest"),
        lambda: Service("orders", needs=["Stock"]),
        lambda: Service("orders").client(),
        lambda: Service("orders").client("stock", version="newest"),
        lambda: Service("orders").client("stock", timeout=0),
        lambda: Service("orders").client(url="ftp://x"),
        lambda: Service("orders").database(min_size=5, max_size=2),
        lambda: _twice(Service("orders")),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(Misconfigured):
        wrong()


def _twice(service: Service) -> None:
    service.database()
    service.database()


async def test_publishing_before_start_says_so() -> None:
    with pytest.raises(Misconfigured, match="is not running"):
        await Service("orders").publish("a", {})
