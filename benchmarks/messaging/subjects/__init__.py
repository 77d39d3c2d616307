"""What is measured, a module each: `run` is one process in the role it is given."""
