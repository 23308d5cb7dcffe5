"""Which requests are answered: those that name this server, and none that a page of another site sends.

A user's browser reaches a server of this machine for any page it shows: by a plain request to it, or by a name of that
page's that resolves to this machine (DNS rebinding). The headers `Host` and `Origin` tell, which no page can set.
"""

import ipaddress
import json
import urllib.parse
from collections.abc import Callable, Iterable, Mapping

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names of this machine that are always answered."""
READS = ("GET", "HEAD", "OPTIONS")
SIMPLE = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""Media types that a page of another site may send without a preflight request."""
PORTS = {"http": 80, "https": 443}


class Guard:
    """ASGI middleware that refuses foreign names with 403, and bodies without the JSON media type with 415."""

    def __init__(self, app: Callable, hosts: Iterable[str] = LOCAL, refused: Callable[[], None] = lambda: None):
        """A guard in front of `app`.

        Args:
          hosts: names and addresses of the server besides `LOCAL`, without port. An unspecified address (0.0.0.0, ::)
            stands for every address, "*" for every name.
          refused: called for each request that is refused.
        """
        self._app, self._refused = app, refused
        self._more = {_bare(host) for host in hosts} - set(LOCAL)
        self._every_address = any(_address(host) and _address(host).is_unspecified for host in self._more)

    async def __call__(self, scope, receive, send) -> None:
        """The ASGI application."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        refusal = self.refusal(scope["method"], headers) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        self._refused()
        status, reason = refusal
        body = json.dumps({"error": reason}).encode()
        fields = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def refusal(self, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason if the request is not to be answered."""
        host, port = split(headers.get("host", ""))
        if host and not self._is_own_host(host):
            return 403, f"Host {host!r:.80} is not this server's name; --allow-host adds one"
        if method in READS:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is None and site not in ("none", "same-origin"):
            return 403, "the request comes from a page of another site"
        if origin is not None and not self._same(origin, host, port):
            return 403, f"Origin {origin!r:.80} is another site; --allow-host adds a name"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in SIMPLE:
            return 415, f"Content-Type {kind}: send application/json"
        return None

    def _is_own_host(self, host: str) -> bool:
        return host in LOCAL or bool(self._more & {host, "*"}) or (self._every_address and bool(_address(host)))

    def _same(self, origin: str, host: str, port: int | None) -> bool:
        try:
            parts = urllib.parse.urlsplit(origin)
            name, default = _bare(parts.hostname or ""), PORTS.get(parts.scheme)
            there = parts.port or default
        except ValueError:
            return False
        if not name or default is None:  # "null", or no page of the web
            return False
        # A proxy may give the server its own `Host`, so a name that was allowed is enough.
        return name in self._more or (name == host and there == (port or default))


def split(host: str) -> tuple[str, int | None]:
    """Name and port of a `Host` header, the name in lower case without brackets; a port that is none is 0."""
    name, colon, port = host.strip().rpartition(":")
    if not colon or "]" in port:
        name, port = host.strip(), ""
    return _bare(name), (int(port) if port.isascii() and port.isdigit() else 0) if port else None


def _bare(host: str) -> str:
    return host.strip().strip("[]").rstrip(".").lower()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
