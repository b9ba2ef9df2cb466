"""Watching the feeds: what was heard, what is usual, what is wrong and who is told."""
