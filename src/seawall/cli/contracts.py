"""`seawall contracts`: what the project's services publish and consume, and what a step breaks.

Contracts come from declarations: modules are imported, nothing is started. Those of another
version come from a file, a folder of files, or the source at a git ref.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seawall.cli.failure import FAILED, USAGE, Failure
from seawall.cli.project import project_path, project_services, project_spec
from seawall.cli.screen import CYAN, GREY, RED, YELLOW, Paint, coloured, print_json

if TYPE_CHECKING:
    from seawall.contracts.compatibility import Finding
    from seawall.contracts.contract import Contract

# Importing a project's modules takes seconds; one that hangs is to be told.
_WITHIN = 120.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("export", "check", "diff"))
    parser.add_argument("old", nargs="?", metavar="OLD", help="diff: git ref, file or folder")
    parser.add_argument(
        "new", nargs="?", metavar="NEW", help="diff: the same; this project if none"
    )
    parser.add_argument("--out", metavar="FOLDER", help="export: one file a service")
    parser.add_argument(
        "--mode",
        choices=("full", "forward", "backward"),
        default="full",
        help="diff: publishers are released first (forward), consumers (backward), or any (full)",
    )
    parser.add_argument(
        "--known", action="store_true", help="diff: nobody else reads or sends than these services"
    )


def run(options: argparse.Namespace) -> int:
    if options.what == "export":
        return _export(options)
    from seawall.contracts.compatibility import Mode, compare, faults

    if options.what == "check":
        contracts = _here(options)
        return _tell(options, faults(contracts), f"{len(contracts)} services understand each other")
    if options.old is None:
        raise Failure("diff needs a version to compare with", fix=_EXAMPLE, status=USAGE)
    old = _contracts(options, options.old)
    new = _here(options) if options.new is None else _contracts(options, options.new)
    found = compare(old, new, mode=Mode(options.mode), outsiders=not options.known)
    return _tell(options, found, f"{options.old}: nothing breaks")


_EXAMPLE = "seawall contracts diff main, or a folder that `seawall contracts export --out` wrote"


def _export(options: argparse.Namespace) -> int:
    from seawall.contracts.contract import written

    contracts = _here(options)
    if options.out is None:
        print(written(contracts), end="")
        return 0
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    for contract in contracts:
        (folder / f"{contract.service}.json").write_text(written([contract]), encoding="utf-8")
    print(f"{len(contracts)} contracts in {folder}", file=sys.stderr)
    return 0


def _here(options: argparse.Namespace) -> Sequence["Contract"]:
    """The contracts of the project's own services; other programs have none."""
    services = project_services(project_spec(options))
    return [service.contract for service in services.values()]


def _contracts(options: argparse.Namespace, source: str) -> Sequence["Contract"]:
    from seawall.contracts.contract import read

    path = Path(source)
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise Failure(f"{path} holds no contracts", fix=_EXAMPLE, status=USAGE)
        return [one for file in files for one in read(file.read_text(encoding="utf-8"))]
    if path.is_file():
        return read(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="seawall-contracts-") as folder:
        return read(_at_ref(options, source, Path(folder)))


def _at_ref(options: argparse.Namespace, ref: str, folder: Path) -> str:
    """The contracts of the project as it was at a git ref, as text; by that source itself."""
    path = project_path(options).resolve()
    root = path.parent if path.is_file() else path
    try:
        top = Path(_git(root, "rev-parse", "--show-toplevel").decode().strip())
        archive = _git(top, "archive", "--format=zip", f"{ref}^{{commit}}")
    except (OSError, subprocess.CalledProcessError) as exc:
        why = getattr(exc, "stderr", b"") or str(exc).encode()
        raise Failure(
            f"{ref} is no file, no folder and no git ref",
            why=why.decode(errors="replace").strip(),
            fix=_EXAMPLE,
            status=USAGE,
        ) from exc
    with zipfile.ZipFile(BytesIO(archive)) as files:  # never writes outside of the folder
        files.extractall(folder)
    project = folder / path.relative_to(top)
    command = [sys.executable, "-m", "seawall.cli", "--project", str(project)]
    if profile := getattr(options, "profile", None):
        command += ["--profile", profile]
    done = subprocess.run(
        [*command, "contracts", "export"],
        cwd=project if project.is_dir() else project.parent,
        env=os.environ | {"PYTHONPATH": _path_without(root)},
        capture_output=True,
        text=True,
        timeout=_WITHIN,
        check=False,
    )
    if done.returncode != 0:
        raise Failure(f"the contracts at {ref} cannot be read", why=done.stderr.strip())
    return done.stdout


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=_WITHIN).stdout


def _path_without(root: Path) -> str:
    """PYTHONPATH without the project as it is now: its old source must not find that."""
    kept = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(one for one in kept if one and not root.is_relative_to(one))


def _tell(options: argparse.Namespace, found: Sequence["Finding"], well: str) -> int:
    breaking = sum(one.breaking for one in found)
    if getattr(options, "json", False):
        rows: list[dict[str, Any]] = [one.to_json() for one in found]
        print_json({"schema": "seawall.contracts/1", "breaking": breaking, "findings": rows})
    elif found:
        print("\n".join(rendered(found, Paint(coloured(options, sys.stdout)))))
    else:
        print(well, file=sys.stderr)
    return FAILED if breaking else 0


def rendered(found: Sequence["Finding"], paint: Paint) -> Iterator[str]:
    """For a person: what, whom it breaks, and how to fix it; then the count."""
    for one in found:
        label = paint("breaking", RED) if one.breaking else paint("warning", YELLOW)
        place = f"{one.topic}: {one.at}" if one.at else one.topic
        yield f"{label}  {paint(place, CYAN)}  {paint(f'{one.rule}, {one.meeting}', GREY)}"
        yield f"  what:   {one.what}"
        yield f"  by:     {one.cause}"
        yield f"  breaks: {'; '.join(one.breaks)}"
        yield f"  fix:    {one.fix}"
        yield ""
    breaking = sum(one.breaking for one in found)
    yield f"{breaking} breaking, {len(found) - breaking} warnings"
