"""The tables of the database, as they are after every migration. Knows nothing of their use."""

from sqlalchemy import JSON, Column, Float, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("account", String(128), nullable=False),
    Column("dialect", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("task", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", Float(53), nullable=False),  # unix seconds, as all times
    Column("started", Float(53)),
    Column("finished", Float(53)),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("paint_width", Integer, nullable=False),
    Column("paint_height", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("guidance", Float(53), nullable=False),
    Column("strength", Float(53), nullable=False),
    Column("seeds", JSON, nullable=False),
    Column("painted", Integer, nullable=False),
    Column("queue_seconds", Float(53)),
    Column("paint_seconds", Float(53)),
    Column("total_seconds", Float(53)),
    Column("outcome", String(64), nullable=False),
    Column("prompt", Text),
    Column("answer", JSON(none_as_null=True)),
    Column("request_key", String(64)),
    Column("fingerprint", String(64)),
    Index("jobs_by_time", "dialect", "created"),
    Index("jobs_by_age", "created"),
    Index("jobs_by_key", "request_key"),
)
