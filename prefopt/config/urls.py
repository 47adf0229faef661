"""URLs in a config, which may hold secrets."""

from urllib.parse import urlsplit


def check_url(field: str, url: str) -> None:
    """Raise ValueError, which holds no part of the URL, unless it can be asked over HTTP."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError(f"{field} holds a space or a control character")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{field} must be http://host... or https://host... with a valid port")
