"""Loaded into the run of kafka-python's tests: a subscription waits for the metadata request that is under way.

The answer to a consumer's first metadata request clears the wish of a subscription that was made while it was awaited, and
the consumer then asks for no topic until the next refresh, five minutes later. It is a race in the client, so with any broker
alike; some tests subscribe at once. What a test asks of the broker stays as it is.
"""

from kafka import KafkaConsumer

BOOTSTRAP_TIMEOUT_MS = 30_000

_subscribe = KafkaConsumer.subscribe


def subscribe(self, *arguments, **options):
    self._manager.bootstrap(BOOTSTRAP_TIMEOUT_MS, refresh=False)
    # Joins the request that is under way, or makes one.
    self._manager.run(self._cluster.refresh_metadata)
    return _subscribe(self, *arguments, **options)


KafkaConsumer.subscribe = subscribe
