"""The way out of one sandbox: a proxy for the hosts it may reach, behind a socket that is mounted into it.

What runs inside finds it by the usual variables (`building.inside.forwarding`). A sandbox without hosts has no socket,
and so no way out at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.runner.building.inside import forwarding
from servers.runner.egress import Event, Lookup, Permits, Proxy, allowed, ask_the_system, nowhere
from servers.runner.sandbox.launcher import Tree


@dataclass(frozen=True, slots=True)
class Doors:
    """Opens ways out. `permits` is the installation's own rule about addresses, to be handed in from above.

    `folder` holds the sockets: every user of the machine may pass through it, none may list it.
    """

    folder: Path
    permits: Permits = nowhere
    lookup: Lookup = ask_the_system

    def clear(self) -> None:
        """Remove what a runner that was killed has left."""
        for path in self.folder.iterdir():
            shutil.rmtree(path)

    @asynccontextmanager
    async def opened(
        self, hosts: Sequence[str], *, user: int | None, tell: Callable[[str], None]
    ) -> AsyncIterator[list[Tree]]:
        """What to mount, for as long as the sandbox lives. `user` is who it is; `tell` gets a line for what was shut,
        and one an hour for what was reached and refused.

        Raises `ValueError` for what is no host.
        """
        if not hosts:
            yield []
            return

        def heard(event: Event) -> None:
            if event.refused:
                tell(f"The way to {event.host}:{event.port} was shut: {event.refused}")

        listed = [allowed(each) for each in hosts]
        proxy = Proxy(listed, self.permits, lookup=self.lookup, heard=heard, summed_up=tell)
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            os.chmod(place, 0o711)
            path = Path(place) / "s"
            async with proxy.listening(path, owner=user):
                yield [Tree(str(path), forwarding.SOCKET)]
