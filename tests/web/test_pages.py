import asyncio
import gzip
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.core.errors import Code
from entobot.web.pages import APP_PATHS, Pages, load_pages
from tests.web.conftest import Build, client_of
from tests.web.test_problems import check_problem

INDEX = b"<!doctype html><title>Phone app</title>" + b" " * 600
SCRIPT = b"console.log(1);" * 100


@pytest.fixture
def built(tmp_path: Path) -> Pages:
    folder = tmp_path / "pages"
    for name, content in {
        "index.html": INDEX,
        "assets/phone-abc123.js": SCRIPT,
        "assets/tiny-abc123.css": b"a{}",
        "sw.js": b"// worker",
        "manifest.webmanifest": b"{}",
        "icon-192.png": b"\x89PNG",
        ".secret": b"hidden",
        "docs/swagger-ui.css": b"a{}",
        "docs/swagger-ui-bundle.js": b"void 0",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    return load_pages(folder)


@pytest.fixture
async def client(build: Build, built: Pages):  # noqa: ANN201
    async with client_of(build(pages=built)) as client:
        yield client


PHONE = Path(__file__).parents[2] / "web/src/phone"


def of_the_router() -> set[str]:
    """Every address that the app's own router knows, with an id where it takes one."""
    lines = [line for line in (PHONE / "router.svelte.ts").read_text().splitlines() if 'first === "' in line]
    found = {(name, "id:" in line) for line in lines for name in re.findall(r'first === "(\w+)"', line)}
    return {f"/{name}/some_01" if takes_id else f"/{name}" for name, takes_id in found}


def test_the_router_has_been_read() -> None:
    assert {"/chat/some_01", "/automations/some_01", "/things/some_01", "/pair"} <= of_the_router()


@pytest.mark.parametrize("path", sorted({*APP_PATHS, *of_the_router()}))
def test_the_service_worker_keeps_every_address_of_the_app(path: str) -> None:
    found = re.search(r"PAGES = /(.+)/;", (PHONE / "service-worker.js").read_text())
    assert found is not None
    assert re.search(found[1].replace("\\/", "/"), path)


@pytest.mark.parametrize("path", sorted({*APP_PATHS, "/automations", *of_the_router()}))
async def test_every_address_of_the_app_is_its_one_page(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.content) == (200, INDEX)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "media_type", "cache"),
    [
        ("/assets/phone-abc123.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("/sw.js", "text/javascript; charset=utf-8", "no-cache"),
        ("/manifest.webmanifest", "application/manifest+json", "no-cache"),
        ("/icon-192.png", "image/png", "no-cache"),
    ],
)
async def test_files_have_their_type_and_caching(
    client: httpx.AsyncClient, path: str, media_type: str, cache: str
) -> None:
    headers = (await client.get(path)).headers
    assert (headers["content-type"], headers["cache-control"]) == (media_type, cache)


async def test_text_is_sent_compressed_to_those_who_take_it(client: httpx.AsyncClient, built: Pages) -> None:
    zipped = await client.get("/assets/phone-abc123.js", headers={"accept-encoding": "gzip"})
    plain = await client.get("/assets/phone-abc123.js", headers={"accept-encoding": "identity"})
    assert (zipped.content, plain.content) == (SCRIPT, SCRIPT)
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < 100
    assert "content-encoding" not in plain.headers
    assert zipped.headers["etag"] != plain.headers["etag"]
    assert zipped.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    page = built.find("/assets/phone-abc123.js")
    assert page is not None
    assert page.zipped is not None
    assert gzip.decompress(page.zipped) == SCRIPT


async def test_a_known_version_is_not_sent_again(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/")).headers["etag"]
    again = await client.get("/", headers={"if-none-match": f'"other", W/{etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await client.get("/", headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/assets/..%2f..%2foutside.txt",
        "/.secret",
        "/link.txt",
        "/assets",
        "/assets/",
        "/chat/a/b",
        "/chat/%2e%2e",
        "/index.html",
        "/pair/",
    ],
)
async def test_nothing_but_the_built_files_is_found(client: httpx.AsyncClient, path: str) -> None:
    check_problem(await client.get(path), 404, "not_found")


async def test_a_page_can_only_be_read(client: httpx.AsyncClient) -> None:
    response = await client.post("/pair")
    check_problem(response, 405, "invalid")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await client.options("/pair")).status_code == 204
    head = await client.head("/pair", headers={"accept-encoding": "identity"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(INDEX)))


async def test_pages_that_were_not_built_say_how_to_build_them(build: Build, tmp_path: Path) -> None:
    async with client_of(build(pages=load_pages(tmp_path / "absent"))) as client:
        app = await client.get("/")
        docs = await client.get("/api/docs")
    assert app.status_code == 503
    assert "make setup" in app.text
    assert "make setup" in docs.text
    assert "/api/openapi.json" in docs.text


async def test_the_description_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs")
    assert "//" not in page.text.replace("<!doctype", "")
    assert "<script>" not in page.text
    assert "style=" not in page.text
    for asset in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/docs-init.js"):
        assert asset in page.text
        assert (await client.get(asset)).status_code == 200


async def test_the_errors_page_knows_every_code(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs/errors")).text
    assert all(f'id="{code}"' in page for code in Code)


async def test_the_viewer_of_the_description_is_read_when_it_is_asked_for(
    client: httpx.AsyncClient, built: Pages
) -> None:
    viewer = "/docs/swagger-ui-bundle.js"
    assert built.find(viewer) is None
    first, again = await client.get(viewer), await client.get(viewer)
    assert (first.status_code, first.content) == (again.status_code, again.content) == (200, b"void 0")
    assert built.find(viewer) is not None


async def test_a_crowd_that_asks_for_the_viewer_has_it_compressed_once(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = tmp_path / "docs" / "swagger-ui-bundle.js"
    viewer.parent.mkdir()
    viewer.write_bytes(SCRIPT)
    pages = load_pages(tmp_path)
    compressed: list[int] = []
    compress = gzip.compress

    def counted(data: bytes, *args: Any, **options: Any) -> bytes:
        compressed.append(len(data))
        return compress(data, *args, **options)

    monkeypatch.setattr(gzip, "compress", counted)
    async with client_of(build(pages=pages)) as client:
        answers = await asyncio.gather(*(client.get("/docs/swagger-ui-bundle.js") for _ in range(20)))
    assert {answer.content for answer in answers} == {SCRIPT}
    assert compressed == [len(SCRIPT)]


async def test_a_viewer_that_was_removed_since_the_start_is_not_found(build: Build, tmp_path: Path) -> None:
    files = [tmp_path / "docs" / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")]
    (tmp_path / "docs").mkdir()
    for file in files:
        file.write_bytes(b"void 0")
    pages = load_pages(tmp_path)
    files[1].unlink()
    async with client_of(build(pages=pages)) as client:
        check_problem(await client.get("/docs/swagger-ui-bundle.js"), 404, "not_found")
        files[1].write_bytes(b"void 1")
        assert (await client.get("/docs/swagger-ui-bundle.js")).content == b"void 1"
