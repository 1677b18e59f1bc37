"""The numbered stages: configuration, command line, and where work runs."""
