"""Files that mypy reads and nobody runs."""
