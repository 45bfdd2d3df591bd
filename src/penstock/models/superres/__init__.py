"""The model superres-x4, which makes a photo four times as wide and as high."""

from penstock.models.superres.params import SuperresParams as SuperresParams
from penstock.models.superres.runner import EIGHT_BITS as EIGHT_BITS
from penstock.models.superres.runner import SuperResolution as SuperResolution
