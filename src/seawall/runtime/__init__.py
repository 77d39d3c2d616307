"""The supervisor: keeps the processes of a project running on this machine."""
