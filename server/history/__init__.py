"""What became of every request: rows in a database, and news for those who follow."""
