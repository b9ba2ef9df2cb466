"""Feeds: one TOML file each, and the parsers where data cannot say it."""
