"""Who said what, and whether it was so: pure. Identities, receipts, verdicts and reputation will live here.

Empty until signed cards land: a room that pretended to verify would be worse than none.
"""
