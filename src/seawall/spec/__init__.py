"""What should be: services, gateway and servers, as written in `seawall.toml`."""
