"""Errors of inputs, which end a submit or an attempt."""

from penstock.errors.base import PenstockError


class UrlBlocked(PenstockError):
    """The URL, its address, or a redirect leads to a place that this server may not fetch from."""

    code, status, title = "input_url_blocked", 422, "URL not allowed"


class InputNotFound(PenstockError):
    """The source answered 4xx: it has no such input, or not for this server."""

    code, status, title = "input_not_found", 422, "Input not found"


class InputDownloadFailed(PenstockError):
    """The source could not be reached, broke the connection, timed out or answered 5xx."""

    code, status, retryable, title = "input_download_failed", 502, True, "Input download failed"


class InputTooLarge(PenstockError):
    """A file is larger than `limits.max_input_bytes`, JSON longer than `limits.max_json_bytes`, or all files of a task
    together larger than `limits.max_inputs_bytes`."""

    code, status, title = "input_too_large", 413, "Input too large"


class ImageTooLarge(PenstockError):
    """The image has more pixels, scans or chunks than is allowed."""

    code, status, title = "image_too_large", 422, "Image too large"


class ImageAnimated(PenstockError):
    """The image has more than one frame, and `limits.animations` takes none that moves."""

    code, status, title = "image_animated", 422, "Image is animated"


class ImageDecodeFailed(PenstockError):
    """The bytes begin like an image but cannot be decoded."""

    code, status, title = "image_decode_failed", 422, "Image cannot be decoded"


class UnsupportedImageFormat(PenstockError):
    """The input is no image of a format that is taken, or was sent with a Content-Encoding."""

    code, status, title = "unsupported_image_format", 415, "Unsupported image format"
