"""The page of the hub, to try it in a browser, and the files that the page loads.

The page names its files and the endpoint relative to itself, so that an application may mount the hub anywhere.
"""

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
    return Response(template_text(name), headers=HEADERS, media_type=FILES[name])


routes = [Route("/", page), *(Route(f"/{name}", page_file) for name in FILES)]
