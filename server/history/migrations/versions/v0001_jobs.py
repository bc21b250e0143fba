"""One row per request that was taken on."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("account", sa.String(128), nullable=False),
        sa.Column("dialect", sa.String(16), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("task", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("started", sa.Float(53)),
        sa.Column("finished", sa.Float(53)),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("paint_width", sa.Integer, nullable=False),
        sa.Column("paint_height", sa.Integer, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("guidance", sa.Float(53), nullable=False),
        sa.Column("strength", sa.Float(53), nullable=False),
        sa.Column("seeds", sa.JSON, nullable=False),
        sa.Column("painted", sa.Integer, nullable=False),
        sa.Column("queue_seconds", sa.Float(53)),
        sa.Column("paint_seconds", sa.Float(53)),
        sa.Column("total_seconds", sa.Float(53)),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("prompt", sa.Text),
        sa.Column("answer", sa.JSON),
        sa.Column("request_key", sa.String(64)),
        sa.Column("fingerprint", sa.String(64)),
    )
    op.create_index("jobs_by_time", "jobs", ["dialect", "created"])
    op.create_index("jobs_by_age", "jobs", ["created"])
    op.create_index("jobs_by_key", "jobs", ["request_key"])


def downgrade() -> None:
    """Take it away."""
    op.drop_table("jobs")
