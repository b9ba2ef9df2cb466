"""VTP: the VOEvent Transport Protocol, on Comet's protocol factories."""
