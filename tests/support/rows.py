"""Tables of a database under test: one for rows, and one of whose faults only COMMIT hears."""

from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

metadata = MetaData()
ROWS = Table("rows", metadata, Column("id", Integer, primary_key=True))
DEFERRED = Table(
    "deferred",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("row", ForeignKey("rows.id", deferrable=True, initially="DEFERRED")),
)
