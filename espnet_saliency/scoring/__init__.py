"""Error rates by group, their uncertainty, and the report."""
