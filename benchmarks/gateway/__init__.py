"""The gateway, interpreted and compiled, beside nginx, HAProxy, Envoy and the proxies one writes.

Each is one worker on core 0; the upstream (nginx) and the load are on core 1. Rounds are
interleaved, figures are medians.

    python -m benchmarks.gateway [--quick] [--only PART...] [--subjects SUBJECT...]
"""
