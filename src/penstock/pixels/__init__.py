"""Images: what their bytes say (`headers`), pixels in one plain form, colours, codecs, and the canvas of a result."""
