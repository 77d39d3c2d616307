"""Who runs where: leases, discovery, and a local view that outlives the registry."""
