"""The orientation that Exif gives an image, and the image upright."""

from PIL import ExifTags, Image

UPRIGHT = 1
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each orientation upright."""


def orientation_of(image: Image.Image) -> int:
    """The orientation of an image, 1..8; 1 where its Exif says none, or cannot be read."""
    try:
        said = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # noqa: BLE001  metadata of others, which must not decide whether there are pixels
        return UPRIGHT
    return said if isinstance(said, int) and said in TURNS else UPRIGHT


def upright(image: Image.Image) -> Image.Image:
    """The image, loaded and turned. A TIFF turns itself when it is loaded."""
    image.load()
    orientation = orientation_of(image)
    return image if orientation == UPRIGHT else image.transpose(TURNS[orientation])
