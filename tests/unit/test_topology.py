import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from seawall.errors import Misconfigured, NoInstance
from seawall.topology import (
    ANY,
    Address,
    Constraint,
    Instance,
    InstanceState,
    latest,
    parse_version,
    resolve,
    service_name,
)

NUMBERS = st.integers(0, 30)
FINAL = st.builds(Version, NUMBERS, NUMBERS, NUMBERS)
PRERELEASES = st.sampled_from([None, "alpha", "alpha.1", "beta.2", "rc.1", "rc.10"])
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, NUMBERS, PRERELEASES)


def allows(constraint: str, version: str) -> bool:
    return Constraint.parse(constraint).allows(parse_version(version))


# -- names


@pytest.mark.parametrize("name", ["a", "orders", "orders-2", "a" * 63])
def test_a_dns_label_names_a_service(name: str) -> None:
    assert service_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Orders", "2orders", "-a", "a-", "a_b", "a.b", "a" * 64, "a\n", "käse", "../x"]
)
def test_nothing_else_does(name: str) -> None:
    with pytest.raises(Misconfigured, match="cannot name a service"):
        service_name(name)


# -- order


def test_versions_are_ordered_by_semver() -> None:
    # The order of section 11 of SemVer 2, and 1.10 after 1.9.
    ordered = [
        *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"),
        *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0-rc.1", "1.10.0", "2.0.0"),
        *("2.1.0", "2.1.1", "10.0.0"),
    ]
    for low, high in itertools.combinations(ordered, 2):
        assert parse_version(low) < parse_version(high)


@given(FINAL, FINAL)
def test_finals_are_ordered_as_numbers(a: Version, b: Version) -> None:
    numbers = [(v.major, v.minor, v.patch) for v in (a, b)]
    assert (parse_version(str(a)) < parse_version(str(b))) == (numbers[0] < numbers[1])


@given(VERSIONS)
def test_a_version_reads_as_it_is_written(version: Version) -> None:
    assert parse_version(str(version)) == version


def test_short_forms_and_build_metadata() -> None:
    assert parse_version("1.4") == parse_version("1.4.0") == parse_version("1.4.0+build.7")
    assert parse_version("2") == parse_version("2.0.0")


@pytest.mark.parametrize("text", ["", "v1.0.0", "1.x", "1.2.3.4", "01.2.3", "latest", "1.-2", " 1"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="is not a version"):
        parse_version(text)


# -- constraints


@pytest.mark.parametrize(
    ("constraint", "inside", "outside"),
    [
        ("^1.2", ["1.2.0", "1.10.0", "1.99.99"], ["1.1.9", "2.0.0", "0.9.0"]),
        ("^2", ["2.0.0", "2.30.1"], ["1.99.0", "3.0.0"]),
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]),
        ("^0.2", ["0.2.0", "0.2.9"], ["0.1.9", "0.3.0", "1.0.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.2", "0.0.4", "0.1.0"]),
        ("^0.0", ["0.0.0", "0.0.9"], ["0.1.0"]),
        ("^0", ["0.0.0", "0.9.0"], ["1.0.0"]),
        ("~1.4", ["1.4.0", "1.4.9"], ["1.3.9", "1.5.0"]),
        ("~1.4.2", ["1.4.2", "1.4.9"], ["1.4.1", "1.5.0"]),
        ("~1", ["1.0.0", "1.9.0"], ["2.0.0"]),
        (">=1.2,<2", ["1.2.0", "1.10.0"], ["1.1.0", "2.0.0"]),
        (" >= 1.2 , < 2 ", ["1.2.0"], ["2.0.0"]),
        (">1.2,<=2,!=1.5", ["1.2.1", "1.5.1", "2.0.0"], ["1.2.0", "1.5.0", "2.0.1"]),
        ("1.4.2", ["1.4.2", "1.4.2+build"], ["1.4.1", "1.4.3"]),
        ("=1.4", ["1.4.0"], ["1.4.1"]),
        ("==1.4", ["1.4.0"], ["1.4.1"]),
        ("*", ["0.0.0", "99.0.0"], ["1.0.0-rc.1"]),
        ("", ["0.0.0", "99.0.0"], ["1.0.0-rc.1"]),
        (">=1.2.0-rc.2", ["1.2.0-rc.2", "1.2.0-rc.10", "1.2.0", "1.3.0"], ["1.3.0-rc.9"]),
        ("^1.2.0-rc.2", ["1.2.0-rc.3", "1.2.0", "1.3.0"], ["1.2.0-rc.1", "2.0.0-rc.1", "2.0.0"]),
        ("<2", ["1.9.0"], ["2.0.0-rc.1", "1.9.0-rc.1"]),
    ],
)
def test_constraints(constraint: str, inside: list[str], outside: list[str]) -> None:
    assert [version for version in inside if not allows(constraint, version)] == []
    assert [version for version in outside if allows(constraint, version)] == []


@pytest.mark.parametrize("text", ["^", "latest", ">=1.2,", ",", "1.x", "~>1.2", ">=1.2 <2", "^^1"])
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        Constraint.parse(text)


def test_a_constraint_reads_as_it_was_written() -> None:
    assert str(Constraint.parse(">=1.2,<2")) == ">=1.2,<2"


@given(FINAL, FINAL)
def test_caret_is_the_same_leftmost_number_that_is_not_zero(base: Version, other: Version) -> None:
    def line(version: Version) -> tuple[int, ...]:
        if base.major:
            return (version.major,)
        if base.minor:
            return (version.major, version.minor)
        return (version.major, version.minor, version.patch)

    expected = other >= base and line(other) == line(base)
    assert Constraint.parse(f"^{base}").allows(other) == expected


@given(FINAL, FINAL)
def test_tilde_is_the_same_minor(base: Version, other: Version) -> None:
    same = (base.major, base.minor) == (other.major, other.minor)
    assert Constraint.parse(f"~{base}").allows(other) == (same and other >= base)


@given(FINAL, FINAL, FINAL)
def test_a_range_is_both_of_its_ends(low: Version, high: Version, other: Version) -> None:
    found = Constraint.parse(f">={low},<{high}").allows(other)
    assert found == (low <= other < high)


@given(VERSIONS)
def test_a_version_allows_itself_and_no_prerelease_comes_unasked(version: Version) -> None:
    assert Constraint.parse(str(version)).allows(version)
    assert Constraint.parse(f"^{version}").allows(version)
    assert Constraint.parse(f"~{version}").allows(version)
    assert ANY.allows(version) == (version.prerelease is None)


# -- instances


def instance(version: str = "1.0.0", service: str = "orders", **more: Any) -> Instance:
    more = {"state": InstanceState.READY, "instance_id": f"{service}-1"} | more
    return Instance(
        service=service, version=version, incarnation="i", address=Address("10.0.0.1", 80), **more
    )


def test_resolves_ready_instances_of_an_allowed_version() -> None:
    wanted = [instance("1.9.0"), instance("1.10.0")]
    others = [
        instance("2.0.0"),
        instance("1.10.0", service="users"),
        *(instance("1.10.0", state=s) for s in InstanceState if s is not InstanceState.READY),
    ]
    found = resolve(wanted + others, "orders", Constraint.parse("^1.9"))
    assert found == tuple(wanted)


def test_no_instance_names_what_was_seen() -> None:
    seen = [instance("2.0.0"), instance("1.0.0", state=InstanceState.DRAINING), instance("2.0.0")]
    with pytest.raises(NoInstance) as caught:
        resolve(seen, "orders", Constraint.parse("^1"))
    assert str(caught.value) == (
        "no ready instance of orders ^1: versions seen: 1.0.0 (draining), 2.0.0 (ready)"
    )
    with pytest.raises(NoInstance, match="versions seen: none"):
        resolve(seen, "users")


def test_an_instance_whose_version_is_none_is_passed_over() -> None:
    good, bad = instance("1.0.0"), instance("nightly")
    assert resolve([bad, good], "orders") == (good,)
    with pytest.raises(NoInstance, match=r"nightly \(ready\)"):
        resolve([bad], "orders")


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["1.9.0", "1.10.0", "1.2.0"], "1.10.0"),
        (["1.9.0", "2.0.0-rc.1"], "1.9.0"),
        (["2.0.0-rc.1", "2.0.0-rc.10", "2.0.0-rc.9"], "2.0.0-rc.10"),
        (["1.4", "1.3.9"], "1.4"),
        (["1.4.0+b2"], "1.4.0+b2"),
        ([], None),
    ],
)
def test_latest_is_the_highest_final_as_it_was_written(
    versions: list[str], expected: str | None
) -> None:
    assert latest(versions) == expected
    assert latest(iter(reversed(versions))) == expected


def test_they_say_what_they_are() -> None:
    assert str(Address("10.0.0.1", 80)) == "10.0.0.1:80"
    assert str(Address("::1", 80)) == "[::1]:80"
    moved = instance("1.2.0").moved(InstanceState.DRAINING)
    assert repr(moved) == "<Instance orders-1 1.2.0 10.0.0.1:80 draining>"
