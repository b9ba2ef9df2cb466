"""Notices and alerts in files: checked, tried, matched and sent once more, without Kafka."""
