"""What `mooring deploy` uploads: a Python file or an archive as it is, a folder as a zip that is always the same."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mooring.errors import InvalidInput

MIB = 2**20
# As the builder has them: it would refuse more, after all of it was sent.
MOST_FILES, LARGEST_FILE, MOST_BYTES, LARGEST_UPLOAD = 2_000, 10 * MIB, 50 * MIB, 20 * MIB
SUFFIXES = (".py", ".zip", ".tar.gz", ".tgz")
# What belongs to this machine and is no part of a program; `.env` and its like hold secrets more often than not.
IGNORED = frozenset(
    ".git .hg .svn .venv __pycache__ node_modules .mypy_cache .pytest_cache .ruff_cache .tox .nox .idea .vscode "
    ".DS_Store .netrc .npmrc .pypirc".split()
)
_IGNORED_ENDS = (".pyc", ".pyo", ".egg-info", ".key")
# The earliest moment a zip can say.
_WHEN = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Upload:
    name: str
    data: bytes


def is_code(path: str) -> bool:
    return "://" not in path and (path.lower().endswith(SUFFIXES) or Path(path).is_dir())


def read(path: str) -> Upload:
    """Raises `InvalidInput` for what would be refused over there, and `OSError`."""
    source = Path(path)
    upload = _packed(source) if source.is_dir() else Upload(source.name, source.read_bytes())
    if len(upload.data) > LARGEST_UPLOAD:
        raise InvalidInput(
            f"{path} has more than {LARGEST_UPLOAD // MIB} MiB packed. Leave out what the server does not need to run.",
            code="upload_too_large",
        )
    return upload


def _packed(folder: Path) -> Upload:
    packed = io.BytesIO()
    total = 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(_files(folder), start=1):
            data = file.read_bytes()
            total += len(data)
            _check(file, folder, number, len(data), total)
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _WHEN)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    if not total:
        raise InvalidInput(f"There is no file in {folder}.")
    return Upload(f"{folder.resolve().name or 'code'}.zip", packed.getvalue())


def _files(folder: Path) -> Iterator[Path]:
    """Regular files in the order of their names. Raises `InvalidInput` for a link, which leads out of the folder."""
    for base, folders, names in os.walk(folder):
        here = Path(base)
        folders[:] = sorted(name for name in folders if belongs(here / name))
        for path in sorted(here / name for name in (*names, *folders)):
            if path.is_symlink():
                raise InvalidInput(
                    f"{path.relative_to(folder)} is a link. Put the file itself there, or leave it out."
                )
        yield from (
            path for path in sorted(here / name for name in names) if belongs(path) and path.is_file()
        )


def belongs(path: Path) -> bool:
    is_ours = path.name not in IGNORED and not path.name.endswith(_IGNORED_ENDS)
    is_ours = is_ours and (not path.name.startswith(".env") or path.name == ".env.example")
    return is_ours and not (path / "pyvenv.cfg").exists()


def _check(file: Path, folder: Path, number: int, size: int, total: int) -> None:
    name = file.relative_to(folder)
    if number > MOST_FILES:
        raise InvalidInput(
            f"{folder} has more than {MOST_FILES:,} files. Leave out what the server does not need."
        )
    if size > LARGEST_FILE:
        raise InvalidInput(f"{name} has more than {LARGEST_FILE // MIB} MiB. Leave it out.")
    if total > MOST_BYTES:
        raise InvalidInput(
            f"{folder} has more than {MOST_BYTES // MIB} MiB. Leave out what the server does not need."
        )
