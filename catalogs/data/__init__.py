"""Data files: the sample of galaxies, and the tables of events that are recognised."""
