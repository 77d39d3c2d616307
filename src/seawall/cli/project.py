"""Which project a command is about."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seawall.runtime.layout import Layout

if TYPE_CHECKING:
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
