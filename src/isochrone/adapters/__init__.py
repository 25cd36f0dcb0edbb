"""The outside world made to fit `ports`: one module or package for each thing we talk to.

`storage` keeps weights, `engines` runs or finds inference engines. An adapter speaks a library's or a
protocol's language on one side and our nouns on the other; it decides nothing about requests or nodes.
May import `model`, `wire`, `ports` and third parties. Only `cli` imports an adapter.
"""
