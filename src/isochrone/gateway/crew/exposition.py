"""One scrape tells of all workers: each sample carries its worker, and a family stands together."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_HELP = "# HELP "


class _OfWorker(Collector):
    """All of `registry`, each sample with the label `worker`."""

    def __init__(self, registry: CollectorRegistry, worker: int) -> None:
        self._registry, self._worker = registry, str(worker)

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            copy = Metric(family.name, family.documentation, family.type, family.unit)
            copy.samples = [self._labelled(sample) for sample in family.samples]
            yield copy

    def _labelled(self, sample: Sample) -> Sample:
        return sample._replace(labels={**sample.labels, "worker": self._worker})


def exposition_of(registry: CollectorRegistry, worker: int | None) -> bytes:
    """`registry` in Prometheus' text format, each sample labelled with its worker if there are several."""
    if worker is None:
        return generate_latest(registry)
    labelled = CollectorRegistry()
    labelled.register(_OfWorker(registry, worker))
    return generate_latest(labelled)


def merged(texts: Iterable[bytes]) -> bytes:
    """One text of several: a family's name, help and type once, then the samples of all."""
    families: dict[str, list[str]] = {}
    for text in texts:
        for block in text.decode().split(_HELP)[1:]:
            head, type_line, *samples = block.rstrip("\n").split("\n")
            families.setdefault(f"{_HELP}{head}\n{type_line}", []).extend(samples)
    lines = ("\n".join((head, *samples)) + "\n" for head, samples in families.items())
    return "".join(lines).encode()
