"""Apsis One (Efficy): imports of profiles."""
