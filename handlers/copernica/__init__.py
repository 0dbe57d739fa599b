"""Copernica: imports into a database of profiles."""
