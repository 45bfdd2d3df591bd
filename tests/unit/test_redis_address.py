"""What redis.url may look like, and what is said of one that looks otherwise."""

import pytest

from penstock.errors import ConfigurationError
from penstock.settings import load
from penstock.store.address import RedisAddress, address_of

SECRET = "a-secret"


@pytest.mark.parametrize("url", ["redis://:p@h:1/2", "rediss://h", "unix:///tmp/a.sock?db=3"])
def test_the_url_of_one_server_is_left_as_it_is(url: str) -> None:
    assert address_of(url) == RedisAddress(url)


def test_sentinels_are_named_with_their_master() -> None:
    found = address_of("redis+sentinel://me:p%40ss@one:1,two,[::1]:3/the-master/4?socket_keepalive=yes")

    assert found.kind == "sentinel"
    assert found.asked == (("one", 1), ("two", 26379), ("::1", 3))
    assert found.master == "the-master"
    assert found.url == "redis://me:p%40ss@one:1/4?socket_keepalive=yes"


def test_nodes_of_a_cluster_are_named_without_a_database() -> None:
    found = address_of("rediss+cluster://:p@[fe80::1],two:2")

    assert (found.kind, found.asked, found.master) == ("cluster", (("fe80::1", 6379), ("two", 2)), "")
    assert found.url == "rediss://:p@[fe80::1]:6379/0"


@pytest.mark.parametrize(
    "url",
    [
        f"redis+sentinel://:{SECRET}@one:1",
        f"redis+sentinel://:{SECRET}@one:1/",
        f"redis+sentinel://:{SECRET}@one:1/the-master/{SECRET}",
        f"redis+sentinel://:{SECRET}/tail@one:1/the-master",
        f"redis+sentinel://:{SECRET}@one:port/the-master",
        f"redis+sentinel://:{SECRET}@/the-master",
        f"redis+cluster://:{SECRET}@one,,two",
        f"redis+cluster://:{SECRET}@one/3",
        f"redis+cluster://:{SECRET}#tail@one",
    ],
)
def test_another_form_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be redis\+") as refused:
        address_of(url)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", [f"http://:{SECRET}@h", SECRET, f"redis:{SECRET}", ""])
def test_another_scheme_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with redis://, ") as refused:
        address_of(url)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PENSTOCK_REDIS_TLS_CA": "/ca.pem"}, "begin redis.url with rediss://"),
        ({"REDIS_URL": "rediss://h", "PENSTOCK_REDIS_TLS_KEY": "/key.pem"}, "belong together"),
    ],
)
def test_files_for_tls_that_would_not_be_used_are_refused(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(None, environ)


def test_files_for_tls_are_taken_with_sentinels_too() -> None:
    url = "rediss+sentinel://one/the-master"

    assert load(None, {"REDIS_URL": url, "PENSTOCK_REDIS_TLS_CA": "/ca.pem"}).redis.tls_ca == "/ca.pem"
