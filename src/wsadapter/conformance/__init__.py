"""The exam that every host passes, whatever framework and server it is made of.

A host of your own passes it by inheriting `Conformance` in a test module that pytest runs:

    class TestMyHost(Conformance):
        @classmethod
        @contextmanager
        def serve(cls, views):
            with my_server(my_app(views)) as (host, port):
                yield host, port

where the app answers a path in *views* with ``open(request, view.handler, **view.options)``, and any other
with a page of status 404. Everything is asked over the wire, by a client that knows nothing of the host.
"""

from .exam import Conformance
from .views import View, views
from .wire import Client

__all__ = ["Client", "Conformance", "View", "views"]
