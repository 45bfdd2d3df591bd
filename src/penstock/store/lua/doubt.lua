-- Notes that an endpoint lets a delivery wait: it counts as prompt again once it answers promptly.
-- takes: endpoint
-- needs: base.ROOT webhook.keep_due
redis.call('ZREM', ROOT .. 'prompt', endpoint)
keep_due(endpoint)
