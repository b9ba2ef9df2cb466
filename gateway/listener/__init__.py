"""The listener: notices in by Kafka, VTP and files; regions, held and dead letters out."""
