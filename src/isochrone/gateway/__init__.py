"""The gateway: the life of a request. Listen, admit, decide, relay, recover, report.

It owns sockets, tasks and time, and nothing of the decision: that is `isochrone.routing` over the beliefs of
`isochrone.fleet`. It knows the outside only through `isochrone.ports` and moves bytes by `isochrone.relay`.
"""

from isochrone.gateway.gateway import Gateway
from isochrone.gateway.settings import GatewaySettings

__all__ = ["Gateway", "GatewaySettings"]
