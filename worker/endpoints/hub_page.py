"""The page of the hub, to try it in a browser, and the files that the page loads.

The page names its files and the endpoint relative to itself, so that an application may mount the hub anywhere.
Pages of other sites may load `client.js`, too. Whether they may connect is decided by `security.allowed_origins`.
"""

import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wsd.templates import PAGE_FILES, PAGE_HEADERS, template_text

FILES = {**PAGE_FILES, "hub.css": "text/css", "hub.js": "text/javascript", "client.js": "text/javascript"}
HEADERS = {**PAGE_HEADERS, "Cache-Control": "no-cache"}  # files of two releases would not fit together


async def page(request: Request) -> Response:
    return Response(template_text("hub.html"), headers=HEADERS, media_type="text/html")


async def page_file(request: Request) -> Response:
    name = request.scope["path"].rpartition("/")[2]
    text = template_text(name)
    headers = {**HEADERS, "ETag": f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'}
    if name == "client.js":
        headers["Access-Control-Allow-Origin"] = "*"
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(text, headers=headers, media_type=FILES[name])


routes = [Route("/", page), *(Route(f"/{name}", page_file) for name in FILES)]
