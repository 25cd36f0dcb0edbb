"""One policy, one file, one shape: `rank(choice, luck)` puts the usable nodes in the order to try them.

A policy reads only what its docstring says, and never changes anything. `isochrone.routing.catalogue` names
them all.
"""
