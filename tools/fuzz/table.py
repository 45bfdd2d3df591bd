"""Every target. A reader of untrusted bytes that is new gets a row here."""

from functools import partial

from tools.fuzz.target import Target
from tools.fuzz.targets import arrays, exif, headers, images, models, requests, signed, urls

TARGETS = (
    Target("url", urls.check_of_url, lambda: urls.URLS, urls.WORDS),
    Target("redirect", urls.check_of_redirect, lambda: urls.LOCATIONS, urls.WORDS),
    Target("object", urls.check_of_object, lambda: urls.OBJECTS, urls.WORDS),
    Target("address", urls.check_of_address, lambda: urls.ADDRESSES, urls.WORDS, most_bytes=100),
    Target(
        "png", images.check_of_png, partial(images.seeds_of, "png"), images.WORDS["png"], mended=images.with_checksums
    ),
    Target("jpeg", images.check_of_image, partial(images.seeds_of, "jpeg"), images.WORDS["jpeg"]),
    Target(
        "webp", images.check_of_image, partial(images.seeds_of, "webp"), images.WORDS["webp"], mended=images.with_length
    ),
    *(
        Target(form, images.check_of_image, partial(images.seeds_of, form), images.WORDS[form])
        for form in ("gif", "bmp", "tiff", "avif")
    ),
    Target("exif", exif.check_of_exif, exif.seeds, exif.WORDS),
    Target("json", requests.check_of_json, lambda: requests.BODIES, requests.JSON_WORDS),
    Target("data-uri", requests.check_of_data_uri, lambda: requests.URIS, requests.URI_WORDS),
    Target("form", requests.check_of_form, lambda: requests.FORMS, requests.FORM_WORDS),
    Target("header", headers.check_of_header, lambda: headers.HEADERS, headers.WORDS),
    Target("cursor", signed.check_of_cursor, lambda: signed.CURSORS, signed.WORDS, most_bytes=100),
    Target("token", signed.check_of_token, lambda: signed.TOKENS, signed.WORDS, most_bytes=200),
    Target("key", signed.check_of_key, lambda: signed.KEYS, signed.WORDS, most_bytes=100, mended=signed.with_checksum),
    Target("arrays", arrays.check_of_arrays, lambda: arrays.FILES, arrays.WORDS),
    Target("model-toml", models.check_of_model_toml, lambda: models.DOCUMENTS, models.TOML_WORDS, most_bytes=16_384),
)
