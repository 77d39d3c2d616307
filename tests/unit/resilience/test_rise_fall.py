import pytest

from seawall.errors import Misconfigured
from seawall.resilience.rise_fall import RiseFall


@pytest.mark.parametrize(
    ("checks", "verdicts"),
    [
        # 1 = passed, 0 = failed; the verdict behind each: + healthy, - not
        ("1111", "++++"),
        ("000", "++-"),
        ("00100100", "++++++++"),
        ("0001", "++--"),
        ("00011", "++--+"),
        ("000101011", "++------+"),
        ("00011000", "++--+++-"),
    ],
)
def test_a_verdict_needs_a_row(checks: str, verdicts: str) -> None:
    one = RiseFall(fall=3, rise=2)
    was, found = True, ""
    for check in checks:
        changed = one.checked(check == "1")
        assert changed is (one.healthy is not was)
        was = one.healthy
        found += "+" if one.healthy else "-"
    assert found == verdicts


@pytest.mark.parametrize(("fall", "rise"), [(0, 1), (1, 0)])
def test_a_row_has_a_length(fall: int, rise: int) -> None:
    with pytest.raises(Misconfigured):
        RiseFall(fall, rise)
