"""The match service: alerts and regions in, candidates out."""
