"""The gateway that one writes in an afternoon: FastAPI, and an httpx2 client with a pool."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

UPSTREAM = os.environ["UPSTREAM"]
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host"}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx2.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx2.AsyncClient(base_url=UPSTREAM, limits=limits, timeout=15) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def proxy(request: Request, path: str) -> StreamingResponse:
    client: httpx2.AsyncClient = request.app.state.client
    outgoing = client.build_request(
        request.method,
        request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        headers=[pair for pair in request.headers.items() if pair[0] not in HOP_BY_HOP],
        content=request.stream() if "content-length" in request.headers else None,
    )
    answer = await client.send(outgoing, stream=True)
    return StreamingResponse(
        answer.aiter_raw(),
        status_code=answer.status_code,
        headers={k: v for k, v in answer.headers.items() if k not in HOP_BY_HOP},
        background=None,
    )
