"""`seawall deploy`: the project's declaration as objects of Kubernetes, and whether they fit."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from seawall.cli import deploy_cluster, deploy_image
from seawall.cli.deploy_files import differing, stored
from seawall.cli.failure import FAILED, USAGE, Failure
from seawall.cli.project import project_path, project_services, project_spec
from seawall.cli.screen import GREY, YELLOW, Paint, coloured, print_json

if TYPE_CHECKING:
    from seawall.deploy.check import Finding
    from seawall.deploy.declared import Declarations
    from seawall.deploy.kubernetes import Files
    from seawall.deploy.target import Target
    from seawall.spec.project import Spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(_RUNS), help="what is made, or check: does it fit?")
    parser.add_argument("kind", nargs="?", help="of a pipeline: github or gitlab")
    parser.add_argument("--out", metavar="DIR", help="standard output, or a folder")
    cluster = add_cluster_arguments(parser)
    image = parser.add_argument_group("image")
    image.add_argument("--build", action="store_true", help="with docker or podman")
    image.add_argument("--builder", choices=deploy_image.PROGRAMS, help="else what works here")
    act = cluster.add_mutually_exclusive_group()
    act.add_argument("--check", action="store_true", help="against the schemas of that version")
    act.add_argument(
        "--diff", action="store_true", help="with what is in --out; without that, in the cluster"
    )
    act.add_argument("--apply", action="store_true", help="to the cluster that kubectl is set to")


def add_cluster_arguments(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Which cluster the objects are for."""
    cluster = parser.add_argument_group("the cluster")
    cluster.add_argument("--kube-version", metavar="1.N", default="1.31", help="of the cluster")
    cluster.add_argument(
        "--ingress",
        choices=("nginx", "gateway-api", "istio"),
        default="nginx",
        help="how requests come into the cluster",
    )
    cluster.add_argument(
        "--mtls",
        choices=("none", "cert-manager"),
        default="none",
        help="who issues certificates of services, where no mesh does",
    )
    return cluster


def run(options: argparse.Namespace) -> int:
    if options.kind is not None and options.what != "pipeline":
        raise Failure(
            f"{options.what} is of one kind; {options.kind!r} means nothing here", status=USAGE
        )
    return _RUNS[options.what](options)


def target_of(options: argparse.Namespace) -> "Target":
    from seawall.deploy.target import Ingress, KubeVersion, Mtls, Target

    version = KubeVersion.parse(options.kube_version)
    return Target(version=version, ingress=Ingress(options.ingress), mtls=Mtls(options.mtls))


def declarations(spec: "Spec") -> "Declarations":
    from seawall.deploy.declared import declared

    return {name: declared(service) for name, service in project_services(spec).items()}


def _kubernetes(options: argparse.Namespace) -> int:
    from seawall.deploy.kubernetes import objects
    from seawall.deploy.kustomize import HEADING
    from seawall.deploy.yaml_text import written

    target, spec = target_of(options), project_spec(options)
    if options.check:
        return _check(options)
    if options.out is not None:
        return _kustomized(options, target)
    files = objects(spec, declarations(spec), target)
    text = written([one for each in files.values() for one in each], heading=HEADING)
    if options.diff or options.apply:
        act = deploy_cluster.diff if options.diff else deploy_cluster.apply
        return act(text, as_json=getattr(options, "json", False))
    if getattr(options, "json", False):
        print_json({"schema": "seawall.deploy/1", "files": {k: list(v) for k, v in files.items()}})
    else:
        print(text, end="")
    return 0


def _kustomized(options: argparse.Namespace, target: "Target") -> int:
    """A base, and an overlay for each profile that the project has a file for."""
    from seawall.deploy.kustomize import tree

    if options.apply:
        raise Failure(
            "--apply and --out do not go together",
            fix="seawall deploy kubernetes --apply, or kubectl apply -k DIR/base",
            status=USAGE,
        )
    base, profiles = _all_profiles(options, target)
    return _give(options, tree(base, profiles))


def _all_profiles(
    options: argparse.Namespace, target: "Target"
) -> tuple["Files", Mapping[str, "Files"]]:
    from seawall.deploy.kubernetes import objects
    from seawall.spec.load import load_spec

    path = project_path(options)
    environ = {name: text for name, text in os.environ.items() if name != "SEAWALL_PROFILE"}
    spec = load_spec(path, environ=environ)
    declared = declarations(spec)
    names = sorted(file.name.split(".")[1] for file in spec.root.glob("seawall.*.toml"))
    profiles = {name: load_spec(path, profile=name, environ=environ) for name in names}
    return objects(spec, declared, target), {
        name: objects(each, declared, target) for name, each in profiles.items()
    }


def _give(options: argparse.Namespace, tree: Mapping[str, str], *, clear: bool = True) -> int:
    """Write the files, or with --diff say what writing them would change. `clear`: what is made
    no longer goes."""
    as_json = getattr(options, "json", False)
    if options.diff:
        changes = differing(options.out, tree, clear=clear)
        if as_json:
            told = {"schema": "seawall.deploy-diff/1", "changed": [each.path for each in changes]}
            print_json(told)
        else:
            print("".join(each.text for each in changes), end="")
        return FAILED if changes else 0
    removed = stored(options.out, tree, clear=clear)
    if as_json:
        told = {"schema": "seawall.deploy-files/1", "files": sorted(tree), "removed": removed}
        print_json(told)
        return 0
    print(f"{len(tree)} files in {options.out}", file=sys.stderr)
    for path in removed:
        print(f"{path} is made no longer, and was deleted", file=sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> int:
    """Schemas if they are asked for, and always whether all fits together."""
    from seawall.deploy import check, fit
    from seawall.deploy.kubernetes import objects
    from seawall.deploy.validate import invalid, is_custom
    from seawall.deploy.workload import workloads

    target, spec = target_of(options), project_spec(options)
    declared = declarations(spec)
    made = [one for each in objects(spec, declared, target).values() for one in each]
    wrong = invalid(made, target.version) if options.what == "kubernetes" else []
    found = [*check.of_objects(made), *fit.of_declarations(spec, workloads(spec, declared))]
    custom = sum(map(is_custom, made))
    if getattr(options, "json", False):
        print_json(
            {
                "schema": "seawall.deploy-check/1",
                "ok": not wrong and not found,
                "objects": len(made),
                "custom": custom,
                "invalid": [str(each) for each in wrong],
                "findings": [_plain(each) for each in found],
            }
        )
    else:
        _tell(options, [str(each) for each in wrong], found)
        if options.what == "kubernetes":
            print(
                f"{len(made) - custom} objects against the schemas of Kubernetes {target.version},"
                f" {len(wrong)} invalid; {custom} of extensions, which have none there",
                file=sys.stderr,
            )
        print(f"{len(made)} objects, {len(found)} that do not fit", file=sys.stderr)
    return FAILED if wrong or found else 0


def _plain(finding: "Finding") -> dict[str, str]:
    return {
        "where": finding.where,
        "rule": finding.rule,
        "what": finding.what,
        "why": finding.why,
        "fix": finding.fix,
    }


def _tell(options: argparse.Namespace, wrong: list[str], found: list["Finding"]) -> None:
    paint = Paint(coloured(options, sys.stdout))
    for line in wrong:
        print(paint(f"invalid: {line}", YELLOW))
    tell_findings(options, found)


def tell_findings(options: argparse.Namespace, found: list["Finding"]) -> None:
    paint = Paint(coloured(options, sys.stdout))
    for finding in found:
        print(f"{paint(finding.where, YELLOW)} {paint(f'({finding.rule})', GREY)}: {finding.what}")
        print(f"  why: {finding.why}")
        print(f"  fix: {finding.fix}")


def _image(options: argparse.Namespace) -> int:
    from seawall.deploy.image import dockerfile, dockerignore
    from seawall.deploy.workload import context_folder, image_of

    spec = project_spec(options)
    tree = {"Dockerfile": dockerfile(spec), ".dockerignore": dockerignore()}
    if options.build or options.builder:
        context = str(context_folder(spec))
        deploy_image.own_or_absent(context, tree)
        stored(context, tree, clear=False)
        as_json = getattr(options, "json", False)
        return deploy_image.build(image_of(spec), context, builder=options.builder, as_json=as_json)
    return _written(options, tree, "Dockerfile")


def _compose(options: argparse.Namespace) -> int:
    from seawall.deploy.compose import HEADING, compose, databases
    from seawall.deploy.workload import workloads
    from seawall.deploy.yaml_text import written

    spec = project_spec(options)
    run = workloads(spec, declarations(spec))
    tree = {"compose.yaml": written([compose(spec, run)], heading=HEADING)}
    if made := databases(run):
        tree["databases.sql"] = made
    return _written(options, tree, "compose.yaml")


def _systemd(options: argparse.Namespace) -> int:
    from seawall.deploy.units import systemd
    from seawall.deploy.workload import workloads

    spec = project_spec(options)
    program = os.path.join(os.path.dirname(sys.executable), "seawall")
    text = systemd(spec, workloads(spec, {}), folder=str(spec.root), program=program)
    name = f"{spec.project.name}.service"
    return _written(options, {name: text}, name)


def _procfile(options: argparse.Namespace) -> int:
    from seawall.deploy.units import procfile
    from seawall.deploy.workload import workloads

    spec = project_spec(options)
    return _written(options, {"Procfile": procfile(spec, workloads(spec, {}))}, "Procfile")


def _pipeline(options: argparse.Namespace) -> int:
    from seawall.deploy.pipelines import KINDS

    if options.kind not in KINDS:
        raise Failure(
            "for whom is the pipeline?",
            fix=f"seawall deploy pipeline {' or '.join(KINDS)}",
            status=USAGE,
        )
    path, made = KINDS[options.kind]
    text = made(project_spec(options), getattr(options, "profile", None))
    return _written(options, {path: text}, path)


def _written(options: argparse.Namespace, tree: Mapping[str, str], main: str) -> int:
    """Into the folder, with --diff compared to it, or the main one of the files printed."""
    if options.out is not None:
        return _give(options, tree, clear=False)
    if getattr(options, "json", False):
        print_json({"schema": "seawall.deploy-texts/1", "files": dict(tree)})
    else:
        print(tree[main], end="")
    return 0


_RUNS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "kubernetes": _kubernetes,
    "check": _check,
    "image": _image,
    "compose": _compose,
    "systemd": _systemd,
    "procfile": _procfile,
    "pipeline": _pipeline,
}
