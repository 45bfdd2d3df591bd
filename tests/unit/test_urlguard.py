"""Every spelling and address the guard must refuse, and those it must let through."""

import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from penstock.errors import ConfigurationError, UrlBlocked
from penstock.net.guard import ObjectName, Policy, check_address, check_input, check_redirect, check_url
from penstock.settings import LimitSettings

PUBLIC_ONLY = Policy.from_limits(LimitSettings())
LOOPBACK_TOO = Policy.from_limits(LimitSettings(allow_networks=("127.0.0.0/8", "fd00::/8")))

GOOD_URLS = [
    ("https://example.com", "https://example.com/"),
    ("HTTPS://EXAMPLE.com:443/a.png", "https://example.com/a.png"),
    ("http://example.com:80/", "http://example.com/"),
    ("http://example.com:0443/", "http://example.com:443/"),
    ("https://example.com:/x", "https://example.com/x"),
    ("https://example.com./x", "https://example.com/x"),
    ("https://example.com?#", "https://example.com/"),
    ("https://example.com/a?b=c#fragment", "https://example.com/a?b=c"),
    ("https://example.com?b=c@127.0.0.1", "https://example.com/?b=c@127.0.0.1"),
    ("https://example.com/a%2Fb%20c?sig=%2B+%3D", "https://example.com/a%2Fb%20c?sig=%2B+%3D"),
    ("https://example.com/ü?q=é", "https://example.com/%C3%BC?q=%C3%A9"),
    ("https://example.com/{a}|b", "https://example.com/%7Ba%7D%7Cb"),
    ("https://xn--exmple-cua.com/", "https://xn--exmple-cua.com/"),
    ("https://my_bucket.s3.example.com/", "https://my_bucket.s3.example.com/"),
    ("https://1.example.com/", "https://1.example.com/"),
    ("https://0x7f.com/", "https://0x7f.com/"),
    ("https://93.184.216.34/", "https://93.184.216.34/"),
    ("https://[2606:2800:220:1:248:1893:25C8:1946]/", "https://[2606:2800:220:1:248:1893:25c8:1946]/"),
    ("https://[::ffff:8.8.8.8]/", None),
]

NOT_HTTP_URLS = [
    # other schemes
    "file:///etc/passwd",
    "ftp://example.com/a",
    "gopher://example.com/",
    "data:image/png;base64,AAAA",
    "s3://bucket/key",
    "javascript:alert(1)",
    "unix:///run/docker.sock",
    "//example.com/a",
    "example.com/a",
    "http:example.com",
    "http:/example.com/",
    "",
    # ports
    "http://example.com:22/",
    "http://example.com:0/",
    "http://example.com:8080/",
    "http://example.com:65536/",
    "http://example.com:99999/",
    "http://example.com:-80/",
    "http://example.com:8 0/",
    "http://example.com:80:80/",
    "http://example.com:٨٠/",
    "https://93.184.216.34:6379/",
    # user information
    "http://user:secret@example.com/",
    "http://a@b@example.com/",
]

SPELLINGS = [
    # private addresses, in every spelling
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://127.0.0.1../",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://2130706433./",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0X7F.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.0x1/",
    "http://127.0.0.01/",
    "http://1.2.3.4.5/",
    "http://example.0x/",
    "http://256.256.256.256/",
    "http://0/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://0xA9FEA9FE/",
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[::1%25lo]/",
    "http://[::1%lo]/",
    "http://[fe80::1%25eth0]/",
    "http://[2606:2800:220:1:248:1893:25c8:1946%25eth0]/",
    "http://[127.0.0.1]/",
    "http://[v1.a]/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]a/",
    "http://a[::1]/",
    # public addresses in a spelling that parsers read differently
    "http://134744072/",
    "http://8.8.8.010/",
    "http://8.8.8.8./",
    # letters that become ASCII somewhere
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://ⓔxample.com/",
    "http://localhost\uff0e/",
    "http://exämple.com/",
    "http://\u212aube.example.com/",
]

AMBIGUOUS_URLS = [
    # no host, or a malformed one
    "http://",
    "http:///a",
    "http://:80/",
    "http://./",
    "http://a..b/",
    "http://-a.example.com/",
    "http://a-.example.com/",
    "http://a%00b/",
    "http://ex%61mple.com/",
    "http://%31%32%37.0.0.1/",
    "http://a,b/",
    "http://" + "a" * 64 + ".com/",
    "http://" + "a." * 127 + "com/",
    # user information, and hosts hidden behind it
    "http://user:secret@example.com/",
    "http://a@b@example.com/",
    "http://@example.com/",
    "http://;x@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http:\\\\example.com/",
    "http://127.0.0.1\\.example.com/",
    # control characters and white space
    " http://example.com/",
    "http://example.com/ ",
    "http://example.com/a b",
    "http://exam\tple.com/",
    "http://example.com/\r\nHost:%20x",
    "http://example.com/\n",
    "http://example.com/\x00",
    "http://example.com/\x7f",
    "http://example.com/\x85",
    "http://example.com/\u00a0",
    "http://example.com/\u2028",
    "http://example.com/\udcff",
    "http://example.com/%00",
    # names
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://a.localhost/",
    "http://example.com/" + "a" * 9000,
]

BAD_ADDRESSES = [
    # `ipaddress` has called each of these global
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "::127.0.0.1",
    "fec0::1",
    "ff02::1",
    "224.0.0.1",
    "239.1.1.1",
    "192.88.99.1",
    "192.0.0.8",
    "5f00::1",
    "3fff::1",
    "168.63.129.16",
    # the registries
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.9",
    "192.0.0.10",
    "192.0.0.170",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "233.252.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:168.63.129.16",
    "::ffff:0:8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "febf::1",
    "ff0e::1",
    "4000::1",
    # not an address
    "",
    "example.com",
    "127.1",
    "2130706433",
]

GOOD_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "198.20.0.1",
    "223.255.255.254",
    "::ffff:8.8.8.8",
    "2606:4700:4700::1111",
    "2a00:1450:4001:830::200e",
    "2001:4860:4860::8888",
]


@pytest.mark.parametrize(("url", "normal"), GOOD_URLS)
def test_a_public_url_passes_in_its_normal_form(url: str, normal: str | None) -> None:
    checked = check_url(url, PUBLIC_ONLY)

    assert normal is None or checked == normal
    assert check_url(checked, PUBLIC_ONLY) == checked


@pytest.mark.parametrize("url", NOT_HTTP_URLS)
def test_ss7_another_scheme_a_port_or_a_user_name_is_blocked(url: str) -> None:
    with pytest.raises(UrlBlocked):
        check_url(url, PUBLIC_ONLY)


@pytest.mark.parametrize("url", SPELLINGS)
def test_ss2_no_spelling_of_an_address_gets_past(url: str) -> None:
    with pytest.raises(UrlBlocked):
        check_url(url, PUBLIC_ONLY)


@pytest.mark.parametrize("url", AMBIGUOUS_URLS)
def test_ss6_a_url_that_parsers_may_read_in_two_ways_is_blocked(url: str) -> None:
    with pytest.raises(UrlBlocked):
        check_url(url, PUBLIC_ONLY)


@pytest.mark.parametrize("path", ["ü" * 8000, "a?" + "|" * 4000])
def test_a_url_that_is_too_long_once_it_is_escaped_is_blocked(path: str) -> None:
    """What passed would be blocked when it is checked again, before it is fetched."""
    with pytest.raises(UrlBlocked, match="8192 characters"):
        check_url(f"https://example.com/{path}", PUBLIC_ONLY)


METADATA_HOSTS = [
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "192.0.0.192",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.azure.internal",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "sub.metadata.google.internal",
    "metadata.goog",
    "metadata.tencentyun.com",
]


@pytest.mark.parametrize("host", METADATA_HOSTS)
def test_ss13_the_metadata_of_a_cloud_is_blocked_by_name_and_address_whatever_is_allowed(host: str) -> None:
    private = ("100.64.0.0/10", "168.63.0.0/16", "169.254.0.0/16", "192.0.0.0/24", "fd00::/8")
    for policy in (PUBLIC_ONLY, Policy.from_limits(LimitSettings(allow_networks=private))):
        with pytest.raises(UrlBlocked):
            check_url(f"http://{host}/latest/meta-data/", policy)


@pytest.mark.parametrize("public_url", ["https://images.example.com/penstock", "http://IMAGES.example.com.:8443"])
@pytest.mark.parametrize("host", ["images.example.com", "IMAGES.example.com.", "images.example.com:443"])
def test_ss13_our_own_public_name_is_blocked(public_url: str, host: str) -> None:
    policy = Policy.from_limits(LimitSettings(), public_url=public_url)

    with pytest.raises(UrlBlocked, match="is this server"):
        check_url(f"https://{host}/v1/tasks", policy)
    check_url("https://other.images.example.com/", policy)


def test_ss13_our_own_public_address_is_blocked() -> None:
    with pytest.raises(UrlBlocked, match="is this server"):
        check_url(
            "https://93.184.216.34/", Policy.from_limits(LimitSettings(), public_url="https://93.184.216.34:8443")
        )


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_ss1_an_address_that_is_not_public_is_blocked_and_not_repeated(address: str) -> None:
    with pytest.raises(UrlBlocked) as caught:
        check_address(address, PUBLIC_ONLY)

    assert not address or address not in caught.value.detail


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_a_public_address_passes(address: str) -> None:
    check_address(address, PUBLIC_ONLY)


def test_http_is_blocked_where_only_https_is_allowed() -> None:
    policy = Policy.from_limits(LimitSettings(allow_http=False))

    assert check_url("https://example.com/", policy) == "https://example.com/"
    with pytest.raises(UrlBlocked, match="scheme must be https"):
        check_url("http://example.com/", policy)


def test_another_port_passes_when_the_settings_name_it() -> None:
    policy = Policy.from_limits(LimitSettings(ports=(80, 443, 8443)))

    assert check_url("https://example.com:8443/", policy) == "https://example.com:8443/"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:49152/a",
        "http://127.9.9.9/",
        "http://[fd00::1]:9000/",
        "http://[::ffff:127.0.0.1]:81/",
    ],
)
def test_an_address_in_an_allowed_network_passes_on_any_port(url: str) -> None:
    check_url(url, LOOPBACK_TOO)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",  # private, in none of the allowed networks
        "http://127.1/",  # in one, but not in its usual spelling
        "http://localhost/",
        "http://example.com:49152/",  # a name has the ports of the settings
        "http://93.184.216.34:49152/",
    ],
)
def test_an_allowed_network_opens_nothing_else(url: str) -> None:
    with pytest.raises(UrlBlocked):
        check_url(url, LOOPBACK_TOO)


def test_an_allowed_network_covers_the_mapped_form_of_its_addresses() -> None:
    check_address("127.0.0.1", LOOPBACK_TOO)
    check_address("::ffff:127.0.0.1", LOOPBACK_TOO)
    check_address("fd00::1", LOOPBACK_TOO)
    with pytest.raises(UrlBlocked):
        check_address("::1", LOOPBACK_TOO)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b.png", "https://example.com/b.png"),
        ("b.png?x=1", "https://example.com/a/b.png?x=1"),
        ("//cdn.example.com/b", "https://cdn.example.com/b"),
        ("http://cdn.example.com/b", "http://cdn.example.com/b"),
        (" /b.png ", "https://example.com/b.png"),
    ],
)
def test_a_redirect_is_followed_relative_to_its_page(location: str, target: str) -> None:
    assert check_redirect("https://example.com/a/c", location, PUBLIC_ONLY) == target


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/",
        "//169.254.169.254/latest/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://exam\tple.com/",
        "\thttp://127.0.0.1/",
        "http://[::1",
        "http://user@example.com/",
        "//example.com\\@127.0.0.1/",
        "http://ⓛocalhost／",
    ],
)
def test_a_redirect_is_checked_like_any_url(location: str) -> None:
    with pytest.raises(UrlBlocked):
        check_redirect("https://example.com/a/c", location, PUBLIC_ONLY)


@pytest.mark.parametrize("network", ["10.0.0.0/33", "10.0.0.1/8", "intranet", ""])
def test_a_network_that_is_none_is_refused_at_start(network: str) -> None:
    with pytest.raises(ConfigurationError, match=r"limits\.allow_networks"):
        Policy.from_limits(LimitSettings(allow_networks=(network,)))


PIECES = [
    "example.com", "127.0.0.1", "8.8.8.8", "[2606:4700::1111]", "[::1]", "0x7f", "2130706433", "xn--", "localhost",
    "http://", "@", ":", "/", "?", "#", "\\", "[", "]", "..", ".", "-", "_", "80", "443", "%", "%2f", "%40", "%00",
    "。", "①", "ⓔ", "é", "ß", "\uff0f", "\u2100", "\u202e", " ", "\t", "\n", "{", "|", '"', "<", "'", ";", "&", "=",
]  # fmt: skip


@given(
    st.sampled_from(["http://", "https://", "http://example.com", "https://8.8.8.8", ""]),
    st.lists(st.sampled_from(PIECES), max_size=7),
)
def test_ss6_whatever_passes_means_the_same_to_every_parser(start: str, pieces: list[str]) -> None:
    try:
        checked = check_url(start + "".join(pieces), PUBLIC_ONLY)
    except UrlBlocked:
        return

    ours, theirs = urlsplit(checked), URL(checked, encoded=True)
    assert str(theirs) == checked
    assert (ours.scheme, ours.hostname, ours.username) == (theirs.scheme, theirs.raw_host, None)
    assert (ours.port or {"http": 80, "https": 443}[ours.scheme]) == theirs.port
    assert theirs.port in (80, 443)
    if is_address_to_the_resolver(theirs.raw_host or ""):
        check_address(theirs.raw_host or "", PUBLIC_ONLY)


def is_address_to_the_resolver(host: str) -> bool:
    """By the lax reading of C, which takes `0x7f.1` and `2130706433`; and by the strict one."""
    for read in (socket.inet_aton, ipaddress.ip_address):
        try:
            read(host)
        except (OSError, ValueError):
            continue
        return True
    return False


# --- objects of buckets -----------------------------------------------------------------------------------------

SOME_BUCKETS = Policy.from_limits(LimitSettings(s3_inputs=("photos", "shared/public", "data/a/b/")))

ALLOWED_OBJECTS = [
    ("s3://photos/cat.png", "photos", "cat.png"),
    ("S3://photos/My cat (1).png", "photos", "My cat (1).png"),
    ("s3://photos/a%20b+c/ü.png", "photos", "a%20b+c/ü.png"),
    ("s3://shared/public/cat.png", "shared", "public/cat.png"),
    ("s3://data/a/b/c/d", "data", "a/b/c/d"),
    ("s3://photos/" + "k" * 1024, "photos", "k" * 1024),
]

BLOCKED_OBJECTS = [
    "s3://other/cat.png",
    "s3://photos2/cat.png",
    "s3://photo/cat.png",
    "s3://penstock/results/default/tsk_1/1.png",
    "s3://shared/cat.png",
    "s3://shared/public",
    "s3://shared/publicity/cat.png",
    "s3://shared/public/../secret.png",
    "s3://shared/public/./../secret.png",
    "s3://shared/public//../secret.png",
    "s3://shared/public\\..\\secret.png",
    "s3://shared/public/\x00/secret.png",
    "s3://shared/public/a\nb",
    "s3://data/a/b",
    "s3://photos",
    "s3://photos/",
    "s3://photos/a/",
    "s3:///cat.png",
    "s3:/photos/cat.png",
    "s3://photos:443/cat.png",
    "s3://key:secret@photos/cat.png",
    "s3://PHOTOS/cat.png",
    "s3://photos/cat.png?versionId=1",
    "s3://photos/cat.png#1",
    "s3://photos/" + "k" * 1025,
    "s3a://photos/cat.png",
]


@pytest.mark.parametrize(("url", "bucket", "key"), ALLOWED_OBJECTS)
def test_an_object_in_an_allowed_place_is_let_through(url: str, bucket: str, key: str) -> None:
    name = check_input(url, SOME_BUCKETS)

    assert name == ObjectName(bucket=bucket, key=key)
    assert check_input(str(name), SOME_BUCKETS) == name


@pytest.mark.parametrize("url", BLOCKED_OBJECTS)
def test_ss12_an_object_outside_of_the_listed_places_is_blocked(url: str) -> None:
    with pytest.raises(UrlBlocked):
        check_input(url, SOME_BUCKETS)


@pytest.mark.parametrize("url", [url for url, *_ in ALLOWED_OBJECTS])
def test_ss12_no_object_is_let_through_where_none_is_listed(url: str) -> None:
    with pytest.raises(UrlBlocked):
        check_input(url, PUBLIC_ONLY)


def test_nothing_but_an_input_may_be_an_object() -> None:
    with pytest.raises(UrlBlocked):
        check_url("s3://photos/cat.png", SOME_BUCKETS)
    with pytest.raises(UrlBlocked):
        check_redirect("https://example.com/", "s3://photos/cat.png", SOME_BUCKETS)


@pytest.mark.parametrize("url", ["https://example.com/a", "http://127.0.0.1/", "data:image/png;base64,AAAA"])
def test_other_inputs_are_checked_as_urls_are(url: str) -> None:
    def outcome(check: Callable[[str, Policy], object]) -> object:
        try:
            return check(url, SOME_BUCKETS)
        except UrlBlocked as error:
            return error.detail

    assert outcome(check_input) == outcome(check_url)


@pytest.mark.parametrize("place", ["", "s3://photos", "Photos", "a", "photos?x", "/photos"])
def test_a_place_that_is_no_bucket_stops_the_start(place: str) -> None:
    with pytest.raises(ConfigurationError, match=r"limits\.s3_inputs"):
        Policy.from_limits(LimitSettings(s3_inputs=(place,)))
