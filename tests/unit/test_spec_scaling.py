"""`[[services.X.scale]]`: what cannot be meant is refused, with what to write instead."""

from pathlib import Path

import pytest

from seawall.errors import Misconfigured
from seawall.spec.load import load_spec
from seawall.spec.project import Spec


def loaded(folder: Path, replicas: str, *scale: str) -> Spec:
    head = f'[services.orders]\nmodule = "orders:service"\nreplicas = {replicas}\n'
    tables = "".join(f"[[services.orders.scale]]\n{each}\n" for each in scale)
    (folder / "seawall.toml").write_text(head + tables)
    return load_spec(folder)


def test_a_figure_and_how_much_of_it_each_replica_is_to_have(tmp_path: Path) -> None:
    spec = loaded(tmp_path, "{ min = 1, max = 4 }", 'metric = "orders_open"\ntarget = 50')
    (scale,) = spec.services["orders"].scale
    assert (scale.metric, scale.target, scale.policy) == ("orders_open", 50.0, "surge")


@pytest.mark.parametrize(
    ("replicas", "scale", "why"),
    [
        ("2", ["target = 5"], "nothing to choose between 2 and 2"),
        ("{ min = 1, max = 4 }", ["target = 5", "target = 9"], "two controllers on 'requests'"),
        (
            "{ min = 1, max = 4 }",
            ['target = 5\npolicy = "hpa"', 'metric = "cpu"\ntarget = 60'],
            "two controllers, hpa and surge",
        ),
        (
            "{ min = 1, max = 4 }",
            ['target = 5\npolicy = "kpa"', 'metric = "cpu"\ntarget = 60\npolicy = "kpa"'],
            "kpa goes by one metric",
        ),
        ("{ min = 1, max = 4 }", ['metric = "queu"\ntarget = 5'], "did you mean 'queue'?"),
        ("{ min = 1, max = 4 }", ['topic = "a"\ntarget = 5'], "requests has no topic"),
        ("{ min = 1, max = 4 }", ["target = 0"], "greater than 0"),
        ("{ min = 1, max = 4 }", ["target = 1\ntargets = 2"], "did you mean 'target'?"),
        ("{ min = 0, max = 4 }", ['metric = "cpu"\ntarget = 5'], "nothing would wake the service"),
        (
            "{ min = 0, max = 4 }",
            ['metric = "queue"\ntarget = 5\npolicy = "hpa"'],
            "hpa never wakes a service",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, replicas: str, scale: list[str], why: str
) -> None:
    with pytest.raises(Misconfigured) as refused:
        loaded(tmp_path, replicas, *scale)
    assert why in str(refused.value)
    assert "seawall.toml" in str(refused.value)


def test_how_much_a_replica_takes_on_is_declared(tmp_path: Path) -> None:
    (tmp_path / "seawall.toml").write_text(
        '[services.orders]\nmodule = "orders:service"\n'
        '[services.orders.admission]\nmaximum = 50\ncritical = ["POST /orders", "/pay/*"]\n'
    )
    admission = load_spec(tmp_path).services["orders"].admission
    assert admission is not None
    assert (admission.kind, admission.maximum, admission.queue) == ("gradient2", 50, 100)


@pytest.mark.parametrize(
    ("service", "admission", "why"),
    [
        ('module = "a:b"', 'critical = ["pay"]', "critical"),
        ('module = "a:b"', "initial = 300", "initial (300) is from minimum (4) to maximum (200)"),
        ('module = "a:b"', 'kind = "best"', "kind"),
        ('command = ["node"]', "maximum = 50", "gateway.upstreams.NAME.adaptive"),
    ],
)
def test_an_admission_that_cannot_be_meant_is_refused(
    tmp_path: Path, service: str, admission: str, why: str
) -> None:
    (tmp_path / "seawall.toml").write_text(
        f"[services.orders]\n{service}\n[services.orders.admission]\n{admission}\n"
    )
    with pytest.raises(Misconfigured) as refused:
        load_spec(tmp_path)
    assert why in str(refused.value)


def test_a_request_wakes_what_the_supervisor_listens_for(tmp_path: Path) -> None:
    assert loaded(tmp_path, "{ min = 0, max = 4 }", "target = 5").services["orders"].scale
    toml = tmp_path / "seawall.toml"
    toml.write_text(toml.read_text().replace('module = "orders:service"', 'command = ["orders"]'))
    with pytest.raises(Misconfigured, match="a command opens its own socket"):
        load_spec(tmp_path)
