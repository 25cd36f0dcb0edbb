"""The three kinds of node: `inference` for speed, `full` for verification, `data` beside data.

Nodes are shells around the pure rooms: they own sockets, tasks and time. They know the outside only through
`isochrone.ports`.
"""
