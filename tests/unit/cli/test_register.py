import pytest

from seawall.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mails", "--", "true"], "nobody knows where mails listens"),
        (["Mails", "--", "true"], "'Mails' cannot name a service"),
        (["mails", "--version", "new", "--", "true"], "'new' is not a version"),
        (["mails", "--health", "readyz", "--", "true"], "the health path 'readyz'"),
    ],
)
def test_what_it_does_not_take(
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("PORT", raising=False)
    assert main(["register", *words]) == 2
    assert said in capsys.readouterr().err
