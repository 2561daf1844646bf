"""Names of files that somebody else has chosen."""

from __future__ import annotations

import unicodedata

from .bounds import PART_BYTES, PATH_BYTES, Bounds, Refusal

# Control characters, invisible ones (among them those that turn the direction of text), halves of characters,
# code points without a meaning, and separators of lines.
_UNSEEN = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}


class Names:
    """The names seen so far, so that no two can mean the same place."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._entries = 0

    def folder(self, name: str) -> None:
        """Raises `Refusal`."""
        self._count()
        if name.strip("/.") or ".." in name:
            parts = checked(name, self._bounds)
            self._enter([*parts, ""])

    def file(self, name: str) -> str:
        """The name in its one spelling, parts joined by `/`. Raises `Refusal`."""
        self._count()
        parts = checked(name, self._bounds)
        path = "/".join(parts)
        key = self._key(path)
        if key in self._files:
            raise Refusal(_twice(path, self._files[key]))
        if key in self._folders:
            raise Refusal(f"{shown(path)} is a file and a folder. Rename one of them.")
        self._enter(parts)
        self._files[key] = path
        return path

    def _enter(self, parts: list[str]) -> None:
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            key = self._key(folder)
            if key in self._files:
                raise Refusal(f"{shown(folder)} is a file and a folder. Rename one of them.")
            if self._folders.setdefault(key, folder) != folder:
                raise Refusal(_twice(folder, self._folders[key]))

    def _key(self, path: str) -> str:
        return unicodedata.normalize("NFC", path).casefold() if self._bounds.folds else path

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._bounds.files:
            raise Refusal(
                f"There are more than {self._bounds.files:,} files. Leave out what the server does not need."
            )


def checked(name: str, bounds: Bounds) -> list[str]:
    """The parts of a relative name. Raises `Refusal` for one that could lead or look elsewhere."""
    if not (name.isascii() and name.isprintable()) and any(map(_is_unseen, name)):
        raise Refusal(f"The name {shown(name)} holds a character that cannot be seen. Rename the file.")
    if "\\" in name or name.startswith("/") or name[1:2] == ":":
        raise Refusal(f"The name {shown(name)} is not a relative path with forward slashes. Pack it again.")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if not parts or ".." in parts:
        raise Refusal(f"The name {shown(name)} leads out of the archive. Pack it again without `..`.")
    if len(parts) > bounds.depth:
        raise Refusal(f"{shown(name)} lies more than {bounds.depth} folders deep.")
    if len(name.encode()) > PATH_BYTES or any(len(part.encode()) > PART_BYTES for part in parts):
        raise Refusal(f"The name {shown(name)} is too long.")
    return parts


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN


def shown(name: str) -> str:
    """The name for a sentence: short, and with nothing in it that could act on a page or a terminal."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return f"“{text if len(text) <= 120 else text[:119] + '…'}”"


def _twice(path: str, other: str) -> str:
    if path == other:
        return f"{shown(path)} is there twice. Pack it again."
    return f"{shown(path)} and {shown(other)} differ in spelling only. Rename one of them."
