"""What the import handlers have in common: cells, rows told apart by their key, files."""
