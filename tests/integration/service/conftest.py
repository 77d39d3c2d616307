"""A system of services for each test."""

from collections.abc import AsyncIterator

import pytest

from seawall.testing.platform import Platform


@pytest.fixture
async def system() -> AsyncIterator[Platform]:
    """Services on real sockets; registry and messages in memory."""
    async with Platform() as platform:
        yield platform
