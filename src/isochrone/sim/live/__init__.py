"""Where the simulator meets the live network: what is asked of it, and how far apart the two are.

Here live requests of real words (`workload`, `words`), the demo network as a scenario of measured speeds
(`measured`), and a live session again in the simulator (`fidelity`). Who only wants requests need not load
the simulator, so this door re-exports nothing. Nothing here opens a socket.
"""
