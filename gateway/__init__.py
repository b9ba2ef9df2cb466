"""The gateway: configuration, feeds, services and the command line."""
