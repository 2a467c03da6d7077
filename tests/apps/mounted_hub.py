"""An application that has the hub below a path of its own."""

from starlette.applications import Starlette
from starlette.routing import Mount

from wsd.worker.endpoints.hub import app as hub

app = Starlette(routes=[Mount("/live", hub)])
