"""One policy, one file, one shape: `rank(choice, luck, parameters)` gives usable nodes in the order to try.

A policy reads only what its docstring says, and never changes anything. `isochrone.routing.catalogue` names
them all.
"""
