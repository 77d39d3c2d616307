"""A socket of RabbitMQ: frames come to whom they are for."""

import asyncio

import pamqp.frame
from pamqp import commands as spec
from pamqp.base import Frame

from seawall.messaging.transports.rabbit_channel import Channel
from seawall.messaging.transports.rabbit_socket import HEARTBEAT, TELL_EVERY, Socket
from seawall.testing.clock import ManualClock
from tests.support.waiting import settle


def written(method: Frame, channel: int) -> bytes:
    return pamqp.frame.marshal(method, channel)


async def test_only_what_is_for_our_channels_is_kept_from_aiormq() -> None:
    clock = ManualClock()
    reader = asyncio.StreamReader()
    socket = Socket(reader, clock.now)
    ours = socket.channels[9] = Channel(9, socket.write, 4096)
    told = asyncio.gather(ours.ask(spec.Basic.Qos()), ours.ask(spec.Channel.Flow(active=True)))
    await settle()  # both have asked
    theirs = written(spec.Basic.QosOk(), 1)
    data = theirs + written(spec.Basic.QosOk(), 9) + theirs + written(spec.Channel.FlowOk(True), 9)
    socket.data_received(data[:15])
    socket.data_received(data[15:])
    assert [answer.name for answer in await told] == ["Basic.QosOk", "Channel.FlowOk"]
    assert await reader.readexactly(2 * len(theirs)) == 2 * theirs


async def test_aiormq_hears_that_the_connection_lives_while_only_we_are_spoken_to() -> None:
    clock = ManualClock()
    reader = asyncio.StreamReader()
    socket = Socket(reader, clock.now)
    socket.channels[9] = Channel(9, socket.write, 4096)
    for _ in range(4):
        socket.data_received(written(spec.Basic.QosOk(), 9))
        clock.advance(TELL_EVERY / 2)
    reader.feed_eof()
    assert await reader.read() == HEARTBEAT
