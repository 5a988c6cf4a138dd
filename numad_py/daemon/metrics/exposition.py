# SPDX-License-Identifier: Apache-2.0

"""Write metrics in Prometheus's text format; imported only where somebody wants it, since it takes memory."""

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from numad_py.daemon.metrics.counting import Counting, Labels
from numad_py.daemon.metrics.table import ALL, Kind, Metric

_FAMILIES: Final = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily}


class _Collected(Collector):
    """What has been counted, as the library wants it."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting

    def collect(self) -> Iterable[Family]:
        """Give every metric that has a value."""
        values = self._counting.values()
        for metric, spread in self._counting.spreads.items():
            yield HistogramMetricFamily(metric.name, metric.help, spread.buckets, spread.sum_s)
        for metric in ALL:
            if values.get(metric):
                yield _family(metric, values[metric])


def text(counting: Counting) -> bytes:
    """Give all of it, as node_exporter and Prometheus read it."""
    return generate_latest(_Collected(counting))


def _family(metric: Metric, values: Mapping[Labels, float]) -> Family:
    family: CounterMetricFamily | GaugeMetricFamily = _FAMILIES[metric.kind](
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
