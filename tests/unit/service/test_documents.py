"""Pages of documentation, kept behind one look."""

import pytest
from starlette.testclient import TestClient

from seawall import Service
from seawall.service.documents import Documents

PAGES = ["/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/asyncapi.json", "/asyncapi"]


@pytest.fixture
def service() -> Service:
    made = Service("orders")

    @made.get("/docs/{name}")
    async def named(name: str) -> str:
        return name

    return made


def test_each_page_is_there(service: Service) -> None:
    client = TestClient(service)
    assert {page: client.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)
    assert client.post("/docs").status_code == 405
    assert client.get("/docs/", follow_redirects=False).headers["location"].endswith("/docs")


def test_a_route_whose_path_ends_like_a_page_is_reached(service: Service) -> None:
    client = TestClient(service)
    assert client.get("/docs/redoc").json() == "redoc"
    assert client.get("/nothing/docs").status_code == 404


def test_pages_are_there_below_a_mount_and_have_names(service: Service) -> None:
    outer = Service("outer")
    outer.mount("/inner", service)
    assert TestClient(outer).get("/inner/docs").status_code == 200
    assert service.url_path_for("swagger_ui_html") == "/docs"


def test_there_are_none_where_they_are_hidden() -> None:
    hidden = Service("bare", openapi_url=None)
    assert not any(isinstance(route, Documents) for route in hidden.router.routes)
