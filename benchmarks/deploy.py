"""How long a project of many services takes to become objects, and to be checked.

SERVICES services, each needing the one before it, half of them autoscaled, behind a gateway with a
route to each: rendered as Kustomize files (`render`), held against the schemas of one version of
Kubernetes (`schemas`) and against each other (`check`). Median of the rounds; reading the schemas
the first time is left out.

`make bench-deploy ARGS=--quick`.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from benchmarks.report import Row, table, versions, write
from seawall.deploy.check import of_objects
from seawall.deploy.declared import Call, Declarations, Declared
from seawall.deploy.fit import of_declarations
from seawall.deploy.kubernetes import objects
from seawall.deploy.kustomize import tree
from seawall.deploy.naming import Object
from seawall.deploy.target import Ingress, Target
from seawall.deploy.validate import invalid
from seawall.deploy.workload import workloads
from seawall.spec.project import Spec

SERVICES = 100


def spec_of(services: int) -> Spec:
    names = [f"service-{number}" for number in range(services)]
    return Spec.model_validate(
        {
            "project": {"name": "many"},
            "gateway": {"routes": [{"path": f"/{name}", "service": name} for name in names]},
            "services": {
                name: {
                    "module": f"many.{number}:service",
                    "needs": names[max(0, number - 1) : number],
                    "replicas": {"min": 2, "max": 2 + number % 2},
                }
                for number, name in enumerate(names)
            },
        }
    )


def declared_of(spec: Spec) -> dict[str, Declared]:
    """As if the code of each called what it needs."""
    return {
        name: Declared(
            version="1.0.0",
            calls=tuple(Call(callee=need, timeout=2.0, attempts=2) for need in service.needs),
            pool=10,
        )
        for name, service in spec.services.items()
    }


def measured(work: Callable[[], object], rounds: int) -> Row:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return {"s": median(taken), "s_min": min(taken), "s_max": max(taken), "rounds": rounds}


def render(spec: Spec, declared: Declarations, target: Target) -> object:
    return tree(objects(spec, declared, target), {})


def check(spec: Spec, declared: Declarations, made: Sequence[Object]) -> object:
    return of_objects(made), of_declarations(spec, workloads(spec, declared))


def main() -> None:
    parser = argparse.ArgumentParser(description="a project of many services as objects")
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    spec = spec_of(options.services)
    declared = declared_of(spec)
    rows: list[Row] = []
    for ingress in Ingress:
        target = Target(ingress=ingress)
        files = objects(spec, declared, target)
        made = [one for each in files.values() for one in each]
        invalid(made, target.version)  # so that the schemas are read
        works: dict[str, Callable[[], object]] = {
            "render": partial(render, spec, declared, target),
            "schemas": partial(invalid, made, target.version),
            "check": partial(check, spec, declared, made),
        }
        for work, run in works.items():
            load: dict[str, str | int | float] = {
                "work": work,
                "ingress": ingress.value,
                "objects": len(made),
            }
            rows.append(load | dict(measured(run, rounds)))
    columns = ("work", "ingress", "objects", "s", "s_min", "s_max", "rounds")
    print(table(f"Seconds for {options.services} services (median of rounds)", columns, rows))
    write("deploy", rows, versions(["seawall", "kubernetes-validate"]))


if __name__ == "__main__":
    main()
