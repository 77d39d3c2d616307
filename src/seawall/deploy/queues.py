"""Where KEDA reads how many messages wait for a group, on each broker."""

from urllib.parse import urlsplit

from seawall.deploy.scalers import Source
from seawall.errors import Misconfigured
from seawall.messaging.base import Subscription
from seawall.messaging.transports.entries import topic_key
from seawall.messaging.transports.kafka_records import Topics
from seawall.messaging.transports.nats_layout import Group as NatsGroup
from seawall.messaging.transports.sqs_entries import queue_name

# Where a NATS server tells about itself.
_NATS_MONITORING = 8222


def source(subscription: Subscription, url: str | None, secret: tuple[str, str] | None) -> Source:
    """The scaler for one group. `url` is the broker's where the spec knows it, `secret` the Secret
    and key where it is kept if it may not be shown: then nothing secret of it is. Raises
    `Misconfigured` where KEDA would not know how to ask."""
    scheme = urlsplit(url).scheme if url is not None else "redis"
    match scheme:
        case "redis" | "rediss" | "valkey" | "valkeys" | "unix":
            return _redis(subscription, None if scheme == "unix" else url, secret)
        case "amqp" | "amqps":
            return _rabbitmq(subscription, url or "", secret)
        case "kafka" | "kafkas" if secret is None:
            return _kafka(subscription, url or "")
        case "nats" | "tls":
            return _nats(subscription, url or "")
        case "sqs" | "eventbridge":
            return _sqs(subscription, url or "")
    raise Misconfigured(
        f"KEDA cannot be told how to ask {scheme} here",
        fix='[services.NAME.deploy] scaler = "hpa"; or messages on Valkey, RabbitMQ, NATS, SQS, or'
        " Kafka without a password",
    )


def _redis(of: Subscription, url: str | None, secret: tuple[str, str] | None) -> Source:
    metadata = {"stream": topic_key(of.topic), "consumerGroup": of.group}
    secrets = {}
    if secret is not None:
        # KEDA wants the parts of a URL: they have keys of their own in the same Secret.
        secrets["password"] = (secret[0], "messages-password")
    if url is None:
        assert secret is not None
        secrets["address"] = (secret[0], "messages-address")
    else:
        parts = urlsplit(url)
        metadata["address"] = f"{parts.hostname}:{parts.port or 6379}"
        metadata["databaseIndex"] = parts.path.strip("/") or "0"
        if parts.scheme in ("rediss", "valkeys"):
            metadata["enableTLS"] = "true"
    return Source(
        type="redis-streams",
        target="lagCount",
        activation="activationLagCount",
        metadata=metadata,
        secrets=secrets,
    )


def _rabbitmq(of: Subscription, url: str, secret: tuple[str, str] | None) -> Source:
    from seawall.messaging.transports.rabbit_layout import Group  # brings RabbitMQ's library

    metadata = {"protocol": "amqp", "queueName": Group.of(of).queue, "mode": "QueueLength"}
    if secret is None:
        metadata["host"] = url
    return Source(
        type="rabbitmq",
        target="value",
        activation="activationValue",
        metadata=metadata,
        secrets={} if secret is None else {"host": secret},
    )


def _kafka(of: Subscription, url: str) -> Source:
    parts, names = urlsplit(url), Topics.of(of)
    metadata = {
        "bootstrapServers": parts.netloc.rpartition("@")[2],
        "topic": names.topic,
        "consumerGroup": names.members,
    }
    if parts.scheme == "kafkas":
        metadata["tls"] = "enable"
    return Source(
        type="kafka",
        target="lagThreshold",
        activation="activationLagThreshold",
        metadata=metadata,
    )


def _nats(of: Subscription, url: str) -> Source:
    group = NatsGroup.of(of)
    metadata = {
        "natsServerMonitoringEndpoint": f"{urlsplit(url).hostname}:{_NATS_MONITORING}",
        "account": "$G",
        "stream": group.topic.stream,
        "consumer": group.consumer,
    }
    return Source(
        type="nats-jetstream",
        target="lagThreshold",
        activation="activationLagThreshold",
        metadata=metadata,
    )


def _sqs(of: Subscription, url: str) -> Source:
    return Source(
        type="aws-sqs-queue",
        target="queueLength",
        activation="activationQueueLength",
        metadata={"queueURL": queue_name(of), "awsRegion": urlsplit(url).netloc},
    )
