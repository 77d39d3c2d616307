"""Who a request comes from, by the word of load balancers that are trusted."""

from tests.integration.gateway.rig import Reply, Rig, Service, get, rig

OURS = ("127.0.0.1/32", "10.0.0.0/8")
V1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + bytes((192, 0, 2, 8, 10, 0, 0, 1))
    + b"\x0f\xa0\x00\x50"
)
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


def heard(r: Rig, name: str) -> str | None:
    return r.services[0].received[-1].field(name)


async def asked(r: Rig, *pieces: bytes) -> Reply:
    client = await r.connect()
    for piece in pieces:
        await client.send(piece)
    return await client.reply()


async def test_the_proxy_protocol_says_who_it_is() -> None:
    async with rig(Service(), trusted_proxies=OURS, proxy_protocol=True) as r:
        for preamble, client in ((V1, "192.0.2.7"), (V2, "192.0.2.8"), (LOCAL, "127.0.0.1")):
            reply = await asked(r, preamble + get("/", "x-forwarded-for: 8.8.8.8"))
            assert reply.status == 200
            # What a client says about itself is not believed: the balancer has said who it is.
            said = client if client != "127.0.0.1" else "8.8.8.8, 127.0.0.1"
            assert heard(r, "x-forwarded-for") == said
        assert [line["client"] for line in await r.logged(3)][:2] == ["192.0.2.7", "192.0.2.8"]


async def test_the_preamble_may_come_in_pieces_and_only_once() -> None:
    async with rig(Service(), trusted_proxies=OURS, proxy_protocol=True) as r:
        request = get("/")
        assert (await asked(r, V2[:5], V2[5:20], V2[20:] + request[:9], request[9:])).status == 200
        client = await r.connect()
        await client.send(V1 + get("/") + get("/") + V1 + get("/"))
        assert [(await client.reply()).status for _ in range(3)] == [200, 200, 400]


async def test_who_does_not_speak_it_is_cut_off_without_a_word() -> None:
    async with rig(Service(), trusted_proxies=OURS, proxy_protocol=True) as r:
        for data in (get("/"), b"PROXY TCP4 a b 1 2\r\n", V2[:13] + b"\x41" + V2[14:]):
            client = await r.connect()
            await client.send(data)
            assert await client.is_closed()
        assert r.gateway.proxy.metrics.connections_refused == 3
        assert not r.gateway.proxy.connections


async def test_who_is_not_trusted_is_cut_off_without_a_word() -> None:
    async with rig(Service(), trusted_proxies=("10.0.0.0/8",), proxy_protocol=True) as r:
        client = await r.connect()
        assert await client.is_closed()
        assert r.services[0].received == []


async def test_without_it_a_preamble_is_not_http() -> None:
    async with rig(Service(), trusted_proxies=OURS) as r:
        for preamble in (V1, V2):
            assert (await asked(r, preamble + get("/"))).status == 400


async def test_forwarded_names_the_client() -> None:
    async with rig(Service(), trusted_proxies=OURS, forwarded=True) as r:
        said = 'for=6.6.6.6;proto=http, for="[2001:db8::7]:99";proto=https, for=10.1.1.1;proto=http'
        await r.get("/", f"forwarded: {said}", "x-forwarded-for: 9.9.9.9", "x-forwarded-proto: ftp")
        ours = "for=127.0.0.1;proto=http;host=shop.example"
        assert heard(r, "forwarded") == f"{said}, {ours}"
        assert heard(r, "x-forwarded-for") == "6.6.6.6, 2001:db8::7, 10.1.1.1, 127.0.0.1"
        assert heard(r, "x-forwarded-proto") == "https"
        assert (await r.logged())[0]["client"] == "2001:db8::7"


async def test_forwarded_of_others_is_not_believed() -> None:
    for trusted in ((), OURS):
        async with rig(Service(), trusted_proxies=trusted, forwarded=True) as r:
            said = "for=6.6.6.6" if not trusted else "for=6.6.6.6;;"
            await r.get("/", f"forwarded: {said}", "x-forwarded-for: 9.9.9.9")
            assert heard(r, "forwarded") == "for=127.0.0.1;proto=http;host=shop.example"
            assert heard(r, "x-forwarded-for") == "127.0.0.1"
            assert (await r.logged())[0]["client"] == "127.0.0.1"


async def test_without_the_option_forwarded_is_dropped() -> None:
    async with rig(Service(), trusted_proxies=OURS) as r:
        await r.get("/", "forwarded: for=6.6.6.6")
        assert heard(r, "forwarded") is None
