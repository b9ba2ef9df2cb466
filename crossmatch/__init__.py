"""Vocabulary and pure functions: notices, regions, alerts, candidates, and how they meet."""
