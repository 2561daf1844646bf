"""Users of the machine that exist only as numbers: one for each server that runs, so that none can reach another."""

from __future__ import annotations

FIRST, COUNT = 200_000, 65_536


class Users:
    """Hands out numbers from a range of `count`. A server keeps its own while anything of it runs."""

    def __init__(self, first: int = FIRST, count: int = COUNT) -> None:
        self._first, self._count = first, count
        self._held: dict[str, int] = {}
        self._holders: dict[str, int] = {}
        self._next = 0

    def take(self, server: str) -> int:
        """Raises `LookupError` when all are taken."""
        if server not in self._held:
            self._held[server] = self._fresh()
        self._holders[server] = self._holders.get(server, 0) + 1
        return self._held[server]

    def release(self, server: str) -> None:
        self._holders[server] -= 1
        if not self._holders[server]:
            del self._holders[server], self._held[server]

    def _fresh(self) -> int:
        """Round and round, so that a number rests as long as possible before it is somebody else's."""
        taken = set(self._held.values())
        for _ in range(self._count):
            number = self._first + self._next
            self._next = (self._next + 1) % self._count
            if number not in taken:
                return number
        raise LookupError("All users for servers are taken.")
