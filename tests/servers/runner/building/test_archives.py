"""Uploads are read under rules of our own: hostile archives are refused in a sentence that names the file."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from servers.runner.building.inside import archives
from servers.runner.building.inside.bounds import MIB, Refusal

TREE = {"server.py": b"print('hello')\n", "pkg/__init__.py": b"", "data/café.txt": b"caf\xc3\xa9"}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def tree_tarred() -> bytes:
    return tarred(*(member(name, content) for name, content in reversed(TREE.items())))


def one(name: str) -> bytes:
    return zipped({"server.py": b"", name: b"x"})


def with_mode(name: str, mode: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("server.py", b"")
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, b"/etc/passwd")
    return out.getvalue()


def encrypted() -> bytes:
    raw = bytearray(zipped({"server.py": b"secret"}, zipfile.ZIP_STORED))
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def nul_in_name() -> bytes:
    return zipped({"server.pyXevil": b""}).replace(b"server.pyXevil", b"server.py\0evil")


def chain() -> bytes:
    """The way out of the library's own filter: links so long that resolving them gives up half-way."""
    part = "d" * 200
    rows, path = [], ""
    for letter in "abcdefghijklmnop":
        rows.append(member(path + part, kind=tarfile.DIRTYPE))
        rows.append(member(path + letter, kind=tarfile.SYMTYPE, link=part))
        path += letter + "/"
    return tarred(*rows, member(path + "escape", kind=tarfile.SYMTYPE, link="../" * 16), member("flag", b"x"))


def sparse() -> bytes:
    info, content = member("hole.bin", b"")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40), "GNU.sparse.major": "0"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def broken_later() -> bytes:
    plain = bytearray(gzip.decompress(tree_tarred()))
    plain[1024:1030] = b"junk!!"
    return gzip.compress(bytes(plain))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip slip": (lambda: one("../outside.py"), "../outside.py"),
    "zip absolute": (lambda: one("/etc/cron.d/x"), "/etc/cron.d/x"),
    "zip backslash": (lambda: one("..\\outside.py"), "outside.py"),
    "zip drive": (lambda: one("C:evil.py"), "C:evil.py"),
    "zip NUL": (nul_in_name, "cannot be seen"),
    "control character": (lambda: one("a\x1b[31m.py"), "a\\x1b[31m.py"),
    "bidi character": (lambda: one("a\u202eyp.txt"), "a\\u202eyp.txt"),
    "zip symlink": (lambda: with_mode("passwd", 0o120777), "passwd"),
    "zip device": (lambda: with_mode("null", 0o020666), "null"),
    "zip encrypted": (encrypted, "encrypted"),
    "zip bzip2": (lambda: zipped({"server.py": b"x"}, zipfile.ZIP_BZIP2), "unusual way"),
    "zip bomb": (lambda: zipped({"zeros.bin": bytes(100 * MIB)}), "zeros.bin"),
    "gzip bomb": (lambda: gzip.compress(bytes(100 * MIB)), "expands"),
    "one large file": (lambda: zipped({"big.txt": random.Random(1).randbytes(11 * MIB)}), "big.txt"),
    "too many files": (lambda: zipped({f"{n}.py": b"" for n in range(2_001)}), "2,000"),
    "too deep": (lambda: one("a/" * 12 + "b.py"), "12 folders"),
    "twice": (lambda: tarred(member("a.py"), member("./a.py")), "a.py"),
    "case clash": (lambda: zipped({"A.py": b"", "a.py": b""}), "A.py"),
    "file and folder": (lambda: tarred(member("a"), member("a/b.py")), "“a”"),
    "tar slip": (lambda: tarred(member("x/../../outside")), "outside"),
    "tar symlink": (lambda: tarred(member("l", kind=tarfile.SYMTYPE, link="/etc")), "“l”"),
    "tar hard link": (lambda: tarred(member("h", kind=tarfile.LNKTYPE, link="/etc/passwd")), "“h”"),
    "tar device": (lambda: tarred(member("dev", kind=tarfile.CHRTYPE)), "dev"),
    "tar pipe": (lambda: tarred(member("pipe", kind=tarfile.FIFOTYPE)), "pipe"),
    "tar sparse": (sparse, "hole.bin"),
    "chain of links": (chain, "link"),
    "broken header later": (broken_later, "damaged"),
    "cut off": (lambda: tree_tarred()[:-20], "too early"),
    "nested archive": (lambda: zipped({"inner.zip": zipped({"a.py": b""})}), "inner.zip"),
    "native program": (lambda: zipped({"tool": b"\x7fELF" + bytes(60)}), "tool"),
    "xz": (lambda: b"\xfd7zXZ\0" + bytes(20), "a zip or a tar.gz"),
    "packed too large": (lambda: bytes(20 * MIB + 1), "20.0 MiB"),
    "empty": (lambda: zipped({}), "no file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_the_sentence_names_what_is_wrong(case: str) -> None:
    make, named = HOSTILE[case]
    with pytest.raises(Refusal) as refused:
        archives.read(make())
    text = str(refused.value)
    assert named in text
    assert text.isprintable()
    assert text.endswith(".")


def test_a_zip_whose_local_header_names_another_file_is_refused() -> None:
    raw = zipped({"aaaa.py": b"x", "bbbb.py": b"y"}).replace(b"aaaa.py", b"cccc.py", 1)
    with pytest.raises(Refusal, match="damaged"):
        archives.read(raw)


def test_a_zip_that_lies_about_a_size_holds_no_more_than_it_says() -> None:
    raw = bytearray(zipped({"server.py": b"x" * 5000}))
    central = raw.index(b"PK\x01\x02")
    raw[central + 24 : central + 28] = struct.pack("<I", 10)
    with pytest.raises(Refusal, match="damaged"):
        archives.read(bytes(raw))


def test_the_same_tree_has_the_same_digest_however_it_was_packed(tmp_path: Path) -> None:
    for name, content in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    packed = [zipped(TREE), zipped(TREE, zipfile.ZIP_STORED), tree_tarred()]
    read = [archives.read(data) for data in packed] + [archives.read_folder(tmp_path)]
    assert all(files == dict(sorted(TREE.items())) for files in read)
    assert len({archives.digest(files) for files in read}) == 1
    assert archives.digest({**TREE, "server.py": b"other"}) != archives.digest(TREE)


def test_one_python_file_keeps_its_name() -> None:
    assert archives.read(b"x = 1\n", "weather.py") == {"weather.py": b"x = 1\n"}
    assert archives.read(b"x = 1\n") == {"server.py": b"x = 1\n"}


@pytest.mark.parametrize("name", ["notes.txt", "../server.py"])
def test_one_file_that_is_no_python_file_is_refused(name: str) -> None:
    with pytest.raises(Refusal):
        archives.read(b"x = 1\n", name)


def test_the_one_folder_around_everything_is_taken_off_but_a_package_stays() -> None:
    assert set(archives.read(zipped({f"repo-main/{name}": b"x" for name in TREE}))) == set(TREE)
    package = {"pkg/__init__.py": b"", "pkg/server.py": b""}
    assert set(archives.read(zipped(package))) == set(package)


def test_what_is_packed_by_accident_is_left_out(tmp_path: Path) -> None:
    extra = {".git/config": b"", "__MACOSX/._server.py": b"", "pkg/__pycache__/x.pyc": b""}
    assert set(archives.read(zipped(TREE | extra))) == set(TREE)
    (tmp_path / "server.py").write_text("")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    os.symlink("/usr/bin/python3", tmp_path / ".venv/bin/python")
    assert set(archives.read_folder(tmp_path)) == {"server.py"}


@pytest.mark.parametrize("target", ["/etc/passwd", "/etc"])
def test_a_link_in_a_folder_is_refused(tmp_path: Path, target: str) -> None:
    os.symlink(target, tmp_path / "secrets")
    with pytest.raises(Refusal, match="secrets"):
        archives.read_folder(tmp_path)
