"""Finds server and API key: the given ones, else those of the environment, else those of the `penstock up` in this
directory."""

import os
from pathlib import Path

import httpx

from penstock.errors import ConfigurationError
from penstock.settings import CLIENT_KEY, KEY_FILE, URL_FILE, ApiSettings, UpSettings, client_environment

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def address_of(url: str | None, api_key: str | None, *, token: str | None = None) -> tuple[str, str]:
    """(url, api_key). With the token of a task the key is empty, unless one is given. The key that `penstock up` has
    made in this directory is sent to that server and this machine alone.

    Raises ConfigurationError when there is no key, or the URL is none.
    """
    environment = client_environment()
    data_dir = Path(environment.data_dir or UpSettings().data_dir)
    own_url = _read(data_dir / URL_FILE)
    url = (url or environment.url or own_url or f"http://127.0.0.1:{ApiSettings().port}").rstrip("/")
    if not is_url(url):
        raise ConfigurationError(f"{url} is no URL of a server; it looks like http://127.0.0.1:8000")
    if token and not api_key:
        return url, ""
    is_own = is_loopback(url) or url == own_url
    key = api_key or environment.api_key or (_read(data_dir / KEY_FILE) if is_own else None)
    if not key:
        raise ConfigurationError(
            f"no API key for {url}; give one, set {CLIENT_KEY}, or run this where `penstock up` was started"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "the API key has characters that no key has; give what `penstock keys new` has printed"
        )
    return url, key


def is_url(url: str) -> bool:
    """Whether this is an HTTP URL with a host."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def is_loopback(url: str) -> bool:
    """Whether the host is this machine."""
    return httpx.URL(url).host in LOOPBACK


def _read(path: Path) -> str | None:
    return (path.read_text().strip() or None) if os.access(path, os.R_OK) else None
