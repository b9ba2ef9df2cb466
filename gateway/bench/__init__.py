"""Measurements against peers, in one process and on one input, results checked equal first."""
