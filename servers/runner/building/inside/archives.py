"""Uploads, read into memory under rules of our own; nothing is ever extracted by the libraries that know how.

An upload is one Python file, a zip (stored or deflated) or a tar.gz. Other compressions may ask for gigabytes before
the first byte comes out.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from .bounds import MIB, PACKED, RATIO, SMALL, UPLOAD, Bounds, Refusal
from .names import Names, shown

Files = Mapping[str, bytes]

DEFAULT_NAME = "server.py"
_CHUNK = 64 * 1024
_ZIP, _GZIP = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"
# What is never part of a server, and is often packed by accident.
_LEFT_OUT = frozenset(
    """
    .git .hg .svn .venv venv node_modules __pycache__ .mypy_cache .pytest_cache .ruff_cache .tox .idea .vscode
    __MACOSX .DS_Store
    """.split()
)
_NESTED = tuple(".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .whl .egg .jar .pex".split())
_NATIVE = (
    b"\x7fELF",
    b"MZ",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
)
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    ValueError,
    OverflowError,
)
# Headers and padding of a tar around its files: three blocks of 512 bytes each at most, on the average.
_TAR_OVERHEAD = UPLOAD.files * 1536 + MIB


def read(data: bytes, name: str = "") -> dict[str, bytes]:
    """The files of an upload by their relative paths, sorted. `name` is what the uploaded file was called.

    Raises `Refusal`.
    """
    if len(data) > PACKED:
        raise Refusal(f"The upload has {len(data) / MIB:.1f} MiB; {PACKED // MIB} MiB is the most.")
    if data.startswith(_ZIP):
        return _lifted(_unpacked(_zip_members, data))
    if data.startswith(_GZIP):
        return _lifted(_unpacked(_tar_members, data))
    return _gathered(iter([(name or DEFAULT_NAME, _one_file(data, name))]), len(data))


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files below a folder on this machine, under the same rules. Raises `Refusal` and OSError."""
    return _gathered(_folder_members(folder), None)


def digest(files: Files) -> str:
    """SHA-256 in hex over the sorted `[path, sha256, size]`: the same however the files were packed."""
    rows = [
        [path, hashlib.sha256(content).hexdigest(), len(content)] for path, content in sorted(files.items())
    ]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


# ---- what is inside ------------------------------------------------------------------------------------------

# A name and a reader for it, or no reader for a folder.
_Member = tuple[str, Callable[[], IO[bytes] | io.FileIO] | None]


def _unpacked(members: Callable[[bytes], Iterator[_Member]], data: bytes) -> dict[str, bytes]:
    try:
        return _gathered(members(data), len(data))
    except Refusal:
        raise
    except _DAMAGED:
        raise Refusal("The archive is damaged. Pack it again.") from None


def _zip_members(data: bytes) -> Iterator[_Member]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            _check_zip_entry(info)
            yield info.filename, None if info.is_dir() else functools.partial(archive.open, info)


def _check_zip_entry(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.orig_filename != info.filename:
        raise Refusal(
            f"The name {shown(info.orig_filename)} holds a character that cannot be seen. Rename the file."
        )
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise Refusal(_not_regular(info.filename))
    if info.flag_bits & 1:
        raise Refusal(f"{shown(info.filename)} is encrypted. Pack it again without a password.")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise Refusal(
            f"{shown(info.filename)} is compressed in an unusual way. Pack it again as an ordinary zip."
        )


def _tar_members(data: bytes) -> Iterator[_Member]:
    plain = _inflated(data)
    with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
        for info in archive:
            if info.isdir():
                yield info.name, None
            elif info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or info.issparse():
                raise Refusal(_not_regular(info.name))
            else:
                yield info.name, functools.partial(_opened, archive, info)
        # A broken header ends the walk without a word, and would hide the rest.
        if plain[archive.offset :].strip(b"\0"):
            raise Refusal("The archive is damaged. Pack it again.")


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None  # of a regular file
    return file


def _inflated(data: bytes) -> bytes:
    """The tar inside, which may be no larger than what it is allowed to hold: readers of tar trust its headers."""
    most = min(UPLOAD.total + _TAR_OVERHEAD, _ratio_limit(len(data)) + _TAR_OVERHEAD)
    plain = bytearray()
    while data:
        stream = zlib.decompressobj(wbits=31)
        plain += stream.decompress(data, most + 1 - len(plain))
        if len(plain) > most:
            raise Refusal(
                "The archive expands to far more than its own size. Pack only what the server needs."
            )
        if not stream.eof:
            raise Refusal("The archive ends too early. Upload it again.")
        data = stream.unused_data.lstrip(b"\0")
    return bytes(plain)


def _folder_members(folder: Path) -> Iterator[_Member]:
    for base, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        for name in sorted({*files, *(each for each in folders if Path(base, each).is_symlink())}):
            path = Path(base, name)
            relative = path.relative_to(folder).as_posix()
            if not stat.S_ISREG(path.lstat().st_mode):
                raise Refusal(_not_regular(relative))
            yield relative, functools.partial(io.FileIO, path)


def _one_file(data: bytes, name: str) -> Callable[[], IO[bytes]]:
    try:
        is_text = "\0" not in data.decode()
    except UnicodeDecodeError:
        is_text = False
    if not is_text or (name and not name.endswith(".py")):
        raise Refusal("Upload a Python file, a zip or a tar.gz.")
    return lambda: io.BytesIO(data)


# ---- rules ---------------------------------------------------------------------------------------------------


def _gathered(members: Iterator[_Member], packed: int | None, bounds: Bounds = UPLOAD) -> dict[str, bytes]:
    """Read it all under the bounds. `packed` is the size of the archive, which bounds the whole, if there is one."""
    names, found, total = Names(bounds), {}, 0
    most = bounds.total if packed is None else min(bounds.total, _ratio_limit(packed))
    for name, open_member in members:
        if open_member is None:
            names.folder(name)
            continue
        path = names.file(name)
        with open_member() as file:
            content = _bounded(file, path, min(bounds.one, most - total), bounds)
        total += len(content)
        if _LEFT_OUT.isdisjoint(path.split("/")):
            _check_content(path, content)
            found[path] = content
    if not found:
        raise Refusal("There is no file in it.")
    return dict(sorted(found.items()))


def _bounded(file: IO[bytes] | io.FileIO, path: str, most: int, bounds: Bounds) -> bytes:
    content = bytearray()
    while chunk := file.read(_CHUNK):
        content += chunk
        if len(content) > bounds.one:
            raise Refusal(f"{shown(path)} has more than {bounds.one // MIB} MiB.")
        if len(content) > most:
            raise Refusal(
                f"The files are too large together, at {shown(path)}: {bounds.total // MIB} MiB and "
                f"{RATIO} times the archive are the most. Pack only what the server needs."
            )
    return bytes(content)


def _ratio_limit(packed: int) -> int:
    return RATIO * max(packed, SMALL)


def _check_content(path: str, content: bytes) -> None:
    if path.lower().endswith(_NESTED):
        raise Refusal(f"{shown(path)} is an archive inside the archive. Unpack it first.")
    if content.startswith(_NATIVE) and not path.endswith(".py"):
        raise Refusal(
            f"{shown(path)} is a program for a processor. Only packages bring those: name one as a dependency."
        )


def _lifted(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without the one folder around everything, as hosts of repositories pack it, unless that is a package."""
    top = {path.partition("/")[0] for path in files}
    if len(top) != 1 or any("/" not in path for path in files) or f"{min(top)}/__init__.py" in files:
        return files
    return _lifted({path.partition("/")[2]: content for path, content in files.items()})


def _not_regular(name: str) -> str:
    return f"{shown(name)} is a link or a device. Pack the file itself instead."


def _raise(error: OSError) -> None:
    raise error
