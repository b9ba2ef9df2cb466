"""The command line; the only place that wires everything and decides exit statuses."""
