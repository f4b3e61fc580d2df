"""How much of a lane's work belongs to whom."""

from __future__ import annotations


class Backlog:
    """The work units of each client that wait, or are on their way here. `total` is the sum."""

    def __init__(self) -> None:
        self.total = 0
        self._units: dict[str, int] = {}
        self._clients: dict[int, int] = {}  # how many clients hold so many units, for `ahead`

    def of(self, client: str) -> int:
        """The units of one client."""
        return self._units.get(client, 0)

    def change(self, client: str, units: int) -> None:
        """Add to the units of a client; a negative number takes away. Who holds nothing is forgotten."""
        before = self._units.get(client, 0)
        after = before + units
        if before:
            self._clients[before] -= 1
            if not self._clients[before]:
                del self._clients[before]
        if after:
            self._clients[after] = self._clients.get(after, 0) + 1
            self._units[client] = after
        elif before:
            del self._units[client]
        self.total += units

    def ahead(self, units: int, client: str) -> int:
        """The units that run until `units` more of `client` have, these included.

        A client is served no more than its neighbour while both wait: of each other client at most as much runs as of
        this one, however much it holds.
        """
        own = self.of(client) + units
        # Hundreds of clients hold but a few different amounts, this client's own among them.
        return units + sum(min(amount, own) * clients for amount, clients in self._clients.items())
