"""What of each partition is finished, and what may be committed."""
