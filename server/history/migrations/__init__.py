"""The history of the database's tables; run by `server/history/database.py` at the start."""
