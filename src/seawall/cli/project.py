"""Which project a command is about."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seawall.runtime.layout import Layout

if TYPE_CHECKING:
    from seawall.service.service import Service
    from seawall.spec.project import Spec


def project_path(options: argparse.Namespace) -> Path:
    """`--project`, or the nearest folder upwards that has a seawall.toml, or this folder."""
    if given := getattr(options, "project", None):
        return Path(given)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "seawall.toml").exists():
            return folder
    return here


def project_layout(options: argparse.Namespace) -> Layout:
    """Where the files of the project are, without reading its configuration."""
    path = project_path(options)
    return Layout((path.parent if path.is_file() else path).resolve())


def project_spec(options: argparse.Namespace, flags: dict[str, Any] | None = None) -> "Spec":
    """The project's configuration; raises `Misconfigured`."""
    from seawall.spec.load import load_spec  # brings pydantic

    profile = getattr(options, "profile", None)
    path = project_path(options)
    return load_spec(path, profile=profile, environ=os.environ, flags=flags)


def project_services(spec: "Spec") -> dict[str, "Service"]:
    """The project's own services, imported and not started; of other programs nothing is known."""
    from seawall.service.serve import load
    from seawall.service.service import Service

    found = {}
    for name, service in spec.services.items():
        if service.module is None:
            continue
        folder = str((spec.root / service.cwd).resolve())
        if folder not in sys.path:
            sys.path.insert(0, folder)
        application = load(service.module)
        if isinstance(application, Service):
            found[name] = application
    return found
