"""The quality gate: scores of an image and of what a model has made of it, as parameters ask for them. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from penstock.errors import InvalidRequest

SCORER = "image-scoring-v1"
"""The model that scores."""

SCORED_KILOPIXELS = 2
"""What it computes for both images, in kilopixels of superres-x4: on a core it takes as long for one as `general` does
for 0.5, and `clean` for 1.4."""

POST = "post"
"""The parameter of a model whose `Sizes` name a scorer."""

MinGain = Annotated[
    float, Meta(ge=-9, le=9, description="a result whose score is not higher by as much is flagged; it does not fail")
]


class Post(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done when the result is there: with `score`, image-scoring-v1 scores the input and the result."""

    score: bool = False
    min_gain: MinGain | None = None


def post_in(params: Mapping[str, Any]) -> Post:
    """What parameters ask for, which were checked before. Raises InvalidRequest for a gain without scores."""
    said = params.get(POST)
    post = said if isinstance(said, Post) else msgspec.convert(said or {}, Post)
    if post.min_gain is not None and not post.score:
        raise InvalidRequest("a gain is that of a score; say score: true", param=f"params.{POST}.min_gain")
    return post
