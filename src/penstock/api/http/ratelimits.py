"""What a client is told of its limits."""


def rate_headers(name: str, limit: int, *, left: int, reset_s: int) -> dict[str, str]:
    """draft-ietf-httpapi-ratelimit-headers-11: two structured fields."""
    if not limit:
        return {}
    return {"RateLimit-Policy": f'"{name}";q={limit};w=60', "RateLimit": f'"{name}";r={left};t={reset_s}'}
