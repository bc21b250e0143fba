"""The history of the database's tables; run by `server/database.py` at the start."""
