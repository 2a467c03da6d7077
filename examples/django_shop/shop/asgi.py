"""Django and the hub as one application. Run it with `wsd start shop.asgi:application`."""

import os

from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.routing import Mount
from wsd import Cluster

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = Starlette(routes=[Mount("/live", app=Cluster().hub), Mount("/", app=get_asgi_application())])
