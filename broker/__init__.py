"""Kafka, Spark and the archive around the matching core."""
