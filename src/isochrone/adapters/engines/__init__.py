"""Inference engines: one that we start ourselves, and any that runs already and speaks OpenAI's HTTP.

`llama` starts llama.cpp servers, each a child process (`child`) that runs `llama_worker`; `openai` finds a
server that others run. Both read an engine's load from its Prometheus page (`metrics`). Requests for tokens
do not pass here: the node's relay speaks to `Engine.url` itself.
"""

from isochrone.adapters.engines.llama import LlamaCppHost, LlamaCppSettings
from isochrone.adapters.engines.openai import OpenAIHost

__all__ = ["LlamaCppHost", "LlamaCppSettings", "OpenAIHost"]
