"""How the supervisor reaches what it asks."""

from pathlib import Path

import pytest

from seawall.runtime.asking import At
from seawall.runtime.operating import ask_all
from seawall.runtime.probe import http_probe
from tests.support.identified import Issuing, Stock, serving


@pytest.fixture
def issuing(tmp_path: Path) -> Issuing:
    return Issuing(tmp_path)


async def test_probes_and_questions_go_by_tls(issuing: Issuing) -> None:
    callee, _ = await issuing.credentials("inventory", ("supervisor",))
    ours, _ = await issuing.credentials("supervisor")
    stock = Stock()
    async with serving(stock, callee) as address:
        at = At(address, ours.towards("inventory"))
        assert (await http_probe(at, "/readyz", 20.0)()).ready
        rows = await ask_all({"inventory": at}, "sagas", {}, "token")
        assert rows == [{"service": "inventory", "answer": {"tea": 7}, "error": None}]
    assert stock.schemes == {"https"}


async def test_whoever_else_answers_is_not_asked(issuing: Issuing) -> None:
    callee, _ = await issuing.credentials("catalog", ("supervisor",))
    ours, _ = await issuing.credentials("supervisor")
    stock = Stock()
    async with serving(stock, callee) as address:
        health = await http_probe(At(address, ours.towards("inventory")), "/readyz", 20.0)()
        assert "shop/catalog answers where" in health.reason
        (row,) = await ask_all(
            {"inventory": At(address, ours.towards("inventory"))}, "sagas", {}, "token"
        )
        assert "shop/catalog answers where" in row["error"]
    assert stock.asked == 0


async def test_what_answers_in_plain_text_is_told_what_to_do(issuing: Issuing) -> None:
    ours, _ = await issuing.credentials("supervisor")
    async with serving(Stock(), None) as address:
        health = await http_probe(At(address, ours.towards("inventory")), "/readyz", 20.0)()
    assert "does not speak TLS" in health.reason
    assert "mtls = false" in health.reason
