"""A block store's files over HTTP, from any web server that serves them; nothing that it says is believed here or verified here."""

from __future__ import annotations

from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from parley.errors import OversizedError, TransportError
from parley.tiles import Fetch

__all__ = ["from_url", "is_url"]

FILE_BYTES: Final = 256 * 1024 * 1024
"""A file of a store is at most this large."""
_MISSING: Final = (404, 410)
_TIMEOUT_SECONDS: Final = 30.0


def is_url(location: str) -> bool:
    """Whether this names a web server's store, rather than a folder."""
    return location.startswith(("http://", "https://"))


def from_url(url: str) -> Fetch:
    """Read a store's files below a URL (http or https); raises FileNotFoundError as every ``Fetch``, and TransportError where the
    server cannot be reached or refuses, OversizedError for a file over the limit.
    """
    if not is_url(url):
        raise TransportError(
            f"{url} is no http or https address; name the block store's folder or its address"
        )
    base = url.rstrip("/") + "/"

    def fetch(path: str) -> bytes:
        try:
            with urlopen(base + path, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310  the scheme is checked
                data: bytes = answer.read(FILE_BYTES + 1)
        except HTTPError as error:
            if error.code in _MISSING:
                raise FileNotFoundError(path) from error
            raise TransportError(
                f"{base}{path} is refused: {error.code} {error.reason}; ask who serves it"
            ) from error
        except (URLError, HTTPException, OSError, ValueError) as error:
            raise TransportError(
                f"{base}{path} cannot be read ({error}); see whether the server is up"
            ) from error
        if len(data) > FILE_BYTES:
            raise OversizedError(
                f"{base}{path} is larger than {FILE_BYTES:,} bytes; it is no file of a block store"
            )
        return data

    return fetch
