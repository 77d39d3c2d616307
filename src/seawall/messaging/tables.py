"""The tables of outbox and inbox, in the database of the service that uses them.

Create them with the service's own: `metadata.create_all`, or a migration. Times are seconds
since 1970 as floats, the same on SQLite and PostgreSQL.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# SQLite counts up by itself only in a column that is exactly INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")

outbox = Table(
    "seawall_outbox",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("message_id", String(255), nullable=False),
    Column("topic", String(255), nullable=False),
    Column("key", String(255)),
    Column("headers", Text, nullable=False),  # a JSON object
    Column("body", LargeBinary, nullable=False),
    # Rows of one such key leave in the order of `seq`. Null for a message that has no key, and
    # for a delayed one: it gave up its place.
    Column("order_key", String(255)),
    Column("not_before", Float, nullable=False),
    Column("claimed_by", String(64), nullable=False, default=""),
    Column("claimed_until", Float, nullable=False, default=0.0),
    Column("created", Float, nullable=False),
    Column("refused", Text),  # why the broker will never take it; a person must look at it
    Index("seawall_outbox_due", "not_before", "seq"),
    Index("seawall_outbox_order", "order_key", "topic", "seq"),
    # Each row is claimed once: there is room beside it for that, so no index is written then.
    postgresql_with={"fillfactor": 50},
)

inbox = Table(
    "seawall_inbox",
    metadata,
    Column("group_name", String(255), primary_key=True),
    Column("message_id", String(255), primary_key=True),
    Column("at", Float, nullable=False),
    Index("seawall_inbox_at", "at"),
)
