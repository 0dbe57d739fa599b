"""Events in files, one a line: validated against the contracts, and published."""
