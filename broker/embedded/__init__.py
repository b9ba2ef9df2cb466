"""What a machine without services of its own needs: Java, jars, one Kafka node, local Spark."""
