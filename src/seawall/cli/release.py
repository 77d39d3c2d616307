"""`seawall release`: build, check, compare, apply, watch, and go back by itself."""

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from seawall.cli import deploy, deploy_image
from seawall.cli.deploy_files import stored
from seawall.cli.failure import FAILED, USAGE, Failure
from seawall.cli.project import project_spec
from seawall.cli.screen import print_json

if TYPE_CHECKING:
    from seawall.cli.kubectl import KubectlCluster
    from seawall.deploy.naming import Object
    from seawall.deploy.release import Report
    from seawall.spec.project import Spec


# Lines of the difference that are shown: what a person reads. A first release is all of it.
_SHOWN = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", metavar="NAME:TAG", help="instead of [deploy] image")
    parser.add_argument("--no-build", action="store_true", help="the image is there already")
    parser.add_argument("--no-push", action="store_true", help="the cluster has it by other means")
    deploy.add_cluster_arguments(parser)
    watch = parser.add_argument_group("watching")
    watch.add_argument(
        "--timeout", type=float, default=600, metavar="S", help="for the rollout, in seconds"
    )
    watch.add_argument(
        "--observe", type=float, default=60, metavar="S", help="the error budget, after it"
    )
    watch.add_argument(
        "--error-budget",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="of requests that may fail with a 5xx",
    )
    watch.add_argument("--every", type=float, default=2.0, metavar="S", help="between two looks")


def run(options: argparse.Namespace) -> int:
    _checked(options)
    flags = None if options.image is None else {"deploy.image": options.image}
    spec = project_spec(options, flags)
    cluster = _cluster(spec)
    objects = _fitting(options, spec)
    if not options.no_build:
        _built(options, spec)
    report = asyncio.run(_released(options, cluster, objects))
    return _told(options, spec, report)


def _checked(options: argparse.Namespace) -> None:
    for name, least, most in (
        ("timeout", 1, 86_400),
        ("observe", 0, 86_400),
        ("error_budget", 0, 100),
        ("every", 0.01, 60),
    ):
        if not least <= getattr(options, name) <= most:
            option = name.replace("_", "-")
            raise Failure(f"--{option} is between {least} and {most}", status=USAGE)


def _fitting(options: argparse.Namespace, spec: "Spec") -> "list[Object]":
    """The objects, if all of it fits: nothing is built that would not run."""
    from seawall.deploy import check, fit
    from seawall.deploy.kubernetes import objects
    from seawall.deploy.validate import SCHEMAS_FROM, invalid, is_installed
    from seawall.deploy.workload import workloads

    declared = deploy.declarations(spec)
    target = deploy.target_of(options)
    files = objects(spec, declared, target)
    made = [one for each in files.values() for one in each]
    found = [*check.of_objects(made), *fit.of_declarations(spec, workloads(spec, declared))]
    if (
        is_installed()
        and target.version >= SCHEMAS_FROM
        and (wrong := invalid(made, target.version))
    ):
        raise Failure(f"{wrong[0]}, and {len(wrong) - 1} more; nothing was released")
    if found:
        if not getattr(options, "json", False):
            deploy.tell_findings(options, found)
        told = "; ".join(f"{each.where}: {each.what}" for each in found)
        fix = "seawall deploy check says why, and what helps"
        raise Failure("what is declared does not fit; nothing was released", why=told, fix=fix)
    return made


def _built(options: argparse.Namespace, spec: "Spec") -> None:
    from seawall.deploy.image import dockerfile, dockerignore
    from seawall.deploy.workload import context_folder, image_of

    context, image = str(context_folder(spec)), image_of(spec)
    tree = {"Dockerfile": dockerfile(spec), ".dockerignore": dockerignore()}
    deploy_image.own_or_absent(context, tree)
    stored(context, tree, clear=False)
    deploy_image.build(image, context, builder=None, as_json=False)
    if not options.no_push:
        deploy_image.push(image)


def _cluster(spec: "Spec") -> "KubectlCluster":
    from seawall.cli.kubectl import KubectlCluster
    from seawall.deploy.naming import namespace_of
    from seawall.deploy.workload import ADMIN_PORT, GATEWAY

    project = spec.project.name
    return KubectlCluster(namespace_of(spec), project, gateway=GATEWAY, admin_port=ADMIN_PORT)


async def _released(
    options: argparse.Namespace, cluster: "KubectlCluster", objects: "list[Object]"
) -> "Report":
    from seawall.clock import SYSTEM
    from seawall.deploy.release import Release, ReleaseConfig
    from seawall.deploy.workload import GATEWAY

    config = ReleaseConfig(
        within=options.timeout,
        observe=options.observe,
        every=options.every,
        allowed=options.error_budget / 100,
    )
    release = Release(cluster, objects, config, gateway=GATEWAY, observer=_say, clock=SYSTEM)
    return await release.run()


def _say(fact: object) -> None:
    from seawall.deploy.release import ENDS, Compared, RolloutMoved, StageBegan

    match fact:
        case StageBegan(stage=stage, why=why) if stage not in ENDS:
            print(f"{stage}{f': {why}' if why else ''}", file=sys.stderr)
        case Compared(difference=text):
            lines = text.splitlines()
            print("\n".join(f"  {line}" for line in lines[:_SHOWN]), file=sys.stderr)
            if len(lines) > _SHOWN:
                more = len(lines) - _SHOWN
                print(f"  and {more} lines more: seawall deploy kubernetes --diff", file=sys.stderr)
        case RolloutMoved(rollout=seen):
            print(f"  {seen}", file=sys.stderr)


def _told(options: argparse.Namespace, spec: "Spec", report: "Report") -> int:
    from seawall.deploy.release import Stage
    from seawall.deploy.workload import image_of

    fine = report.stage in (Stage.RELEASED, Stage.UNCHANGED)
    if getattr(options, "json", False):
        print_json(
            {
                "schema": "seawall.release/1",
                "ok": fine,
                "outcome": str(report.stage),
                "image": image_of(spec),
                "why": report.why,
                "requests": report.requests if report.is_counted else None,
                "errors": report.errors if report.is_counted else None,
                "created": list(report.created),
            }
        )
        return 0 if fine else FAILED
    print(f"{report.stage}{f': {report.why}' if report.why else ''}")
    if report.stage is Stage.RELEASED and not report.is_counted:
        print("no gateway told its requests: only the rollout was watched", file=sys.stderr)
    if not fine and report.created:
        print(f"left there, and new: {', '.join(report.created)}", file=sys.stderr)
    if report.stage is Stage.STUCK:
        print("  fix: kubectl get pods; then seawall release of what ran before", file=sys.stderr)
    return 0 if fine else FAILED
