"""The publisher: statements about candidates become VOEvents, on Kafka and by VTP."""
