"""What every Python peer serves: the number of the process that answered."""

import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def who() -> str:
    return str(os.getpid())
