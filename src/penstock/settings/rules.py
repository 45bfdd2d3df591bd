"""What settings must be beyond their types: one table of rules, each with its error message.

The module stands below the settings and does not import them: a rule gets the tree as its argument.
"""

import binascii
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from penstock.core.access import NAME, NAME_RULE, SCOPES, entry_of, scopes_of

KEY_MIN_LENGTH = 16

_PUBLIC_URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?")

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>0|[1-9][0-9]{0,4}))?"
)
_USUAL_PORTS = {("http", "80"), ("https", "443")}


def _is_origin(text: str) -> bool:
    """Whether a browser may name its page's origin like this: in lower case, without the usual port, and never `*`."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return False
    return found["scheme"] != "file" and (found["scheme"], found["port"]) not in _USUAL_PORTS


def _is_named(key: str) -> bool:
    """Whether a key has a good name, or none. A secret that is a list of scopes is one that was forgotten."""
    entry = entry_of(key)
    return (not entry.name or bool(NAME.fullmatch(entry.name))) and scopes_of(entry.secret) is None


def _is_network(text: str) -> bool:
    try:
        return bool(ip_network(text))
    except ValueError:
        return False


def _is_signing_secret(text: str) -> bool:
    prefix, _, encoded = text.partition("_")
    try:
        return prefix == "whsec" and 24 <= len(binascii.a2b_base64(encoded, strict_mode=True)) <= 64
    except ValueError:
        return False


_GPU = re.compile(r"(?P<name>\d+|(?:GPU|MIG)-[\w/-]+?)(?:x[1-9]\d?)?")


def _are_devices(text: str) -> bool:
    return text in ("auto", "cpu") or all(_GPU.fullmatch(part.strip()) for part in text.split(","))


def _are_listed_once(text: str) -> bool:
    names = [match["name"] for part in text.split(",") if (match := _GPU.fullmatch(part.strip()))]
    return len(names) == len(set(names))


def _are_cuda_options(text: str) -> bool:
    return text in ("auto", "none") or {part.strip() for part in text.split(",")} <= {"fuse_conv_bias", "prefer_nhwc"}


def _tls_files(redis: Any) -> str:
    return str(redis.tls_ca + redis.tls_certificate + redis.tls_key)


RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "api.keys",
        lambda tree: all(map(_is_named, tree.api.keys)),
        f"each is `secret`, `name:secret` or `name:secret:scopes`: a name has {NAME_RULE}; scopes are some of "
        f"{'+'.join(SCOPES)}",
    ),
    (
        "api.keys",
        lambda tree: all(len(entry_of(key).secret) >= KEY_MIN_LENGTH for key in tree.api.keys),
        f"a key needs at least {KEY_MIN_LENGTH} characters after its name",
    ),
    (
        "api.keys",
        lambda tree: len({entry_of(key).secret for key in tree.api.keys}) == len(set(tree.api.keys)),
        "two entries have the same secret: whoever has it could be either; give each its own",
    ),
    (
        "api.keys",
        lambda tree: not any("change-me" in key for key in tree.api.keys),
        "replace the example key with one of your own",
    ),
    (
        "api.public_url",
        lambda tree: not tree.api.public_url or bool(_PUBLIC_URL.fullmatch(tree.api.public_url)),
        "must look like https://images.example.com, without ? and #",
    ),
    (
        "api.cors_origins",
        lambda tree: all(map(_is_origin, tree.api.cors_origins)),
        "each is what a browser sends as Origin, such as https://shop.example.com or http://localhost:5173: in lower "
        "case, without a path, a final / or the usual port; `*` would let any page in that has a key, and is refused",
    ),
    (
        "api.trusted_proxies",
        lambda tree: all(map(_is_network, tree.api.trusted_proxies)),
        "each must be an address or a network such as 10.0.0.0/8",
    ),
    (
        "redis.tls_ca",
        lambda tree: not _tls_files(tree.redis) or tree.redis.url.startswith("rediss"),
        "and redis.tls_certificate are for URLs with TLS: begin redis.url with rediss://",
    ),
    (
        "redis.tls_certificate",
        lambda tree: bool(tree.redis.tls_certificate) is bool(tree.redis.tls_key),
        "and redis.tls_key belong together; set both",
    ),
    (
        "quotas.tenants",
        lambda tree: all(map(NAME.fullmatch, tree.quotas.tenants)),
        "the name of a tenant has letters, digits, `_`, `.` and `-` only",
    ),
    (
        "webhooks.secrets",
        lambda tree: all(map(_is_signing_secret, tree.webhooks.secrets)),
        "each must be whsec_ and the base64 of 24 to 64 random bytes",
    ),
    (
        "queue.retry_cap_s",
        lambda tree: tree.queue.retry_cap_s >= tree.queue.retry_base_s,
        "must not be below queue.retry_base_s",
    ),
    (
        "worker.gpu_ids",
        lambda tree: _are_devices(tree.worker.gpu_ids),
        "must be auto, cpu, or a list of numbers and UUIDs such as 0,GPU-5d5b,MIG-c6d4,1x2",
    ),
    (
        "worker.gpu_ids",
        lambda tree: _are_listed_once(tree.worker.gpu_ids),
        "names a GPU twice; for two workers on GPU 0 write 0x2",
    ),
    (
        "worker.cuda_options",
        lambda tree: _are_cuda_options(tree.worker.cuda_options),
        "must be auto, none, or fuse_conv_bias, prefer_nhwc or both, separated by a comma",
    ),
    (
        "worker.engine_cache_dir",
        lambda tree: not tree.worker.tensorrt or bool(tree.worker.engine_cache_dir),
        "must name a directory when worker.tensorrt is on",
    ),
    (
        "worker.cuda_graphs",
        lambda tree: not (tree.worker.tensorrt and tree.worker.cuda_graphs),
        "cannot be on together with worker.tensorrt",
    ),
)
"""For each rule: the setting at fault, the test of a tree of settings, and the message that says what it must be."""
