"""A mail server for development: takes every mail by SMTP, keeps it, and shows it over HTTP."""
