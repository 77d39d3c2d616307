"""Services: FastAPI applications that are found, balanced, observed and stopped with care."""
